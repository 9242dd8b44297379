"""The histories that ship with a version, for when the feature store has none."""

import sqlite3
from pathlib import Path


class Snapshot:
    """A read-only SQLite file with one table per kind; see `include.model_package`."""

    def __init__(self, path: Path) -> None:
        # immutable: no lock files, so a read-only file system is enough
        self._connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True, check_same_thread=False)

    def history(self, kind: str, entity: int) -> bytes | None:
        """The entity's events, or None when the version never heard of it."""
        row = self._connection.execute(f"SELECT events FROM {kind} WHERE id = ?", (entity,)).fetchone()  # noqa: S608
        return row[0] if row else None

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()
