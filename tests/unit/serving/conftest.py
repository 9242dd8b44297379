"""A package that is small enough to make in every test: a logistic function of the amount, and two histories."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from include.fraud.online import FEATURES, KINDS, Transaction, event
from include.model_package import MODEL, SNAPSHOT, Golden, Manifest, write_manifest, write_snapshot

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def sent(number: int, customer: int = 1, amount: float = 1.0) -> Transaction:
    return Transaction(number, NOON, customer, 2, amount)


def onnx_model(inputs: int = len(FEATURES), outputs: int = 1, kind: int = TensorProto.FLOAT) -> bytes:
    weights = np.zeros((inputs, outputs), dtype=helper.tensor_dtype_to_np_dtype(kind))
    weights[0] = 0.01
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["probability"])],
        "small",
        [helper.make_tensor_value_info("features", kind, ["rows", inputs])],
        [helper.make_tensor_value_info("probability", kind, ["rows", outputs])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def make_package(tmp_path: Path) -> Callable[..., Path]:
    def make(content: bytes | None = None, golden: list[Golden] | None = None, threshold: float = 0.6) -> Path:
        content = onnx_model() if content is None else content
        (tmp_path / MODEL).write_bytes(content)
        write_snapshot(tmp_path / SNAPSHOT, {kind: [(1, event(sent(0))), (-1, b"")] for kind in KINDS})
        digest = hashlib.sha256(content).hexdigest()
        write_manifest(tmp_path, Manifest("a-run", digest, threshold, golden or [], "small", "4"))
        return tmp_path

    return make
