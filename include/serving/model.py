"""One version of the model, loaded from its package."""

import hashlib
import logging
import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from include.command import BadInput
from include.fraud.online import FEATURES, KINDS
from include.model_package import MODEL, SNAPSHOT, Manifest, read_manifest
from include.serving.snapshot import Snapshot

log = logging.getLogger(__name__)

WARM_UP_ROWS = (1, 2, 8, 64, 256)
GOLDEN_TOLERANCE = 1e-5
Floats = NDArray[np.floating]


class Model:
    """Scores inputs; `manifest` says which version it is. Raises BadInput for a folder that holds no usable package."""

    def __init__(self, folder: Path) -> None:
        try:
            self.manifest: Manifest = read_manifest(folder)
            content = (folder / MODEL).read_bytes()
        except (OSError, msgspec.MsgspecError) as error:
            raise BadInput(
                f"{folder} holds no model package ({error}); fill it with python -m include.serving.fetch"
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.manifest.onnx_sha256:
            raise BadInput(
                f"{folder / MODEL} has SHA-256 {found}, its manifest says {self.manifest.onnx_sha256}; fetch it again"
            )
        self.snapshot = folder / SNAPSHOT
        if not self.snapshot.is_file():
            raise BadInput(f"{self.snapshot} does not exist; fetch the package again")
        _try_snapshot(self.snapshot)
        self._session = _session(content, folder)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [(one.type, one.shape[1:]) for one in (*inputs, *outputs)]
        if shapes != [("tensor(float)", [len(FEATURES)]), ("tensor(float)", [1])]:
            raise BadInput(
                f"{folder / MODEL} maps {shapes[: len(inputs)]} to {shapes[len(inputs) :]}; it must map one float "
                f"tensor [rows, {len(FEATURES)}] to one [rows, 1]: export it again"
            )
        self._input, self._output = inputs[0].name, outputs[0].name

    def probabilities(self, inputs: Floats) -> NDArray[np.float32]:
        """The probability of each row [rows] for inputs [rows, n]."""
        rows = np.ascontiguousarray(inputs, dtype=np.float32)
        answer: NDArray[np.float32] = self._session.run([self._output], {self._input: rows})[0]
        return answer[:, 0]

    def warm_up(self) -> None:
        """Score once at each size a batch has, and the golden inputs. Raises BadInput when those come out otherwise."""
        for rows in WARM_UP_ROWS:
            self.probabilities(np.zeros((rows, len(FEATURES))))
        golden = self.manifest.golden
        if golden:
            if {len(one.features) for one in golden} != {len(FEATURES)}:
                raise BadInput(f"a golden request does not have {len(FEATURES)} features: pack the version again")
            scores = self.probabilities(np.array([one.features for one in golden]))
            off = float(np.max(np.abs(scores - np.array([one.probability for one in golden]))))
            if not off <= GOLDEN_TOLERANCE:
                raise BadInput(
                    f"version {self.manifest.version} scores its golden inputs {off:.2g} off what training found, at "
                    f"most {GOLDEN_TOLERANCE:.0e} is allowed: do not serve it, retrain"
                )


def _try_snapshot(file: Path) -> None:
    try:
        snapshot = Snapshot(file)
        for kind in KINDS:
            snapshot.history(kind, 0)
        snapshot.close()
    except sqlite3.Error as error:
        raise BadInput(f"{file} cannot be read ({error}); fetch the package again") from error


def _session(content: bytes, folder: Path) -> onnxruntime.InferenceSession:
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas are how this scales
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise BadInput(f"{folder / MODEL} cannot be loaded: {error}") from error
