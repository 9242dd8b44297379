"""What a registered version ships so that it can be served: the contract between who makes models and who serves them.

A package is a folder of three files. With the run that made the model, MLflow keeps two of them under FOLDER; the
third, the model itself, is the registered one.

model.onnx       inputs [rows, n] float32 to probability [rows, 1] float32
features.sqlite  the history of every entity when the version was made: one table per kind, `id` and `events` (bytes)
serving.json     `Manifest`
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

FOLDER = "serving"
MODEL, SNAPSHOT, MANIFEST = "model.onnx", "features.sqlite", "serving.json"


class Golden(msgspec.Struct, frozen=True):
    """A request whose history ships with the version, and what training says about it."""

    request: dict[str, Any]
    features: list[float]
    probability: float


class Manifest(msgspec.Struct, frozen=True):
    """What is to be known about a version beside the model: its decision threshold and its golden requests."""

    run_id: str
    onnx_sha256: str
    threshold: float
    golden: list[Golden]
    name: str = ""  # filled in when the package is fetched: one run may be registered under any name
    version: str = ""


def write_snapshot(path: Path, histories: Mapping[str, Iterable[tuple[int, bytes]]]) -> None:
    """Write the histories (kind -> id and events) as one SQLite file that nobody writes to again."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN")
        for kind, rows in histories.items():
            connection.execute(f"CREATE TABLE {kind} (id INTEGER PRIMARY KEY, events BLOB NOT NULL)")
            connection.executemany(f"INSERT INTO {kind} VALUES (?, ?)", rows)  # noqa: S608 - kinds are ours
        connection.execute("COMMIT")
    finally:
        connection.close()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it; the last file of a package, so that its presence says that the others are complete."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def read_manifest(folder: Path) -> Manifest:
    """Raises FileNotFoundError, or msgspec.ValidationError when it is not one."""
    return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
