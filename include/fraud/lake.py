"""The data lake: one Parquet file for each UTC day, in a local folder or on s3:// alike.

    transactions/date=YYYY-MM-DD/data.parquet   transactions of that day, in order of (tx_datetime, transaction_id)
    labels/known=YYYY-MM-DD/data.parquet        labels that became known on that day
    quarantine/date=YYYY-MM-DD/data.parquet     rejected rows of that day, with the reason

A file is written whole or not at all, and the same frame always gives the same bytes.
"""

import io
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import fsspec
import polars as pl

from include.command import BadInput
from include.fraud.schema import LABELS, TRANSACTIONS
from include.fraud.windows import LABEL_DELAY_DAYS
from include.settings import local_path

TRANSACTIONS_BY_DAY, LABELS_BY_DAY, QUARANTINE_BY_DAY = "transactions/date=", "labels/known=", "quarantine/date="
FILE = "data.parquet"
READERS = 8
QUARANTINE: dict[str, pl.DataType] = {**TRANSACTIONS, "reason": pl.String()}


class Lake:
    """Reads and writes the partitions under `uri` (a folder or s3://bucket/prefix)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._folder = local_path(self.uri)
        # A cached listing would hide the partitions that another process writes meanwhile.
        self._files, self._root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)

    def write_transactions(self, day: date, frame: pl.DataFrame) -> bytes:
        """Replace the day's partition. Returns the bytes of its file."""
        return self._write(TRANSACTIONS_BY_DAY, day, frame, TRANSACTIONS)

    def write_labels(self, known: date, frame: pl.DataFrame) -> bytes:
        """Replace the partition of the labels that became known on day `known`. Returns the bytes of its file."""
        return self._write(LABELS_BY_DAY, known, frame, LABELS)

    def write_quarantine(self, day: date, frame: pl.DataFrame) -> bytes:
        """Replace the day's rejected rows; without any there is no file. Returns the bytes of its file."""
        if frame.is_empty():
            self._remove(QUARANTINE_BY_DAY, day)
            return b""
        return self._write(QUARANTINE_BY_DAY, day, frame, QUARANTINE)

    def days(self) -> list[date]:
        """The days that have transactions, in order."""
        return self._list(TRANSACTIONS_BY_DAY)

    def label_days(self) -> list[date]:
        """The days on which labels became known, in order."""
        return self._list(LABELS_BY_DAY)

    def quarantine(self, day: date) -> pl.DataFrame:
        """The day's rejected rows with their `reason`; empty when all were good."""
        frame = self._read(QUARANTINE_BY_DAY, day, QUARANTINE)
        return pl.DataFrame(schema=QUARANTINE) if frame is None else frame

    def transactions(self, first: date, last: date) -> pl.DataFrame:
        """Transactions of the days `first` to `last`, both inclusive, in order of (tx_datetime, transaction_id).

        Raises BadInput for a day that the lake does not have and for a file that cannot be read.
        """
        return self._read_all(TRANSACTIONS_BY_DAY, list(days_between(first, last)), TRANSACTIONS)

    def labels(self, known_until: date, first: date | None = None, last: date | None = None) -> pl.DataFrame:
        """Labels known by the end of day `known_until`, of the transactions of days `first` to `last` (default: all).

        Raises BadInput when labels that should be known by then have not been ingested.
        """
        of = self.days() if first is None or last is None else days_between(first, last)
        known = (day + timedelta(days=LABEL_DELAY_DAYS) for day in of)
        return self._read_all(LABELS_BY_DAY, [day for day in known if day <= known_until], LABELS)

    def put(self, name: str, content: bytes) -> str:
        """Write the file `name` below the lake's root, whole or not at all. Returns its URI."""
        if self._folder is None:
            self._put(f"{self._root}/{name}", content)
        else:
            replace_file(self._folder / name, content)
        return f"{self.uri}/{name}"

    def _path(self, kind: str, day: date) -> str:
        return f"{self._root}/{kind}{day}/{FILE}"

    def _list(self, kind: str) -> list[date]:
        partition = re.compile(rf"{kind.rpartition('/')[2]}(\d{{4}}-\d\d-\d\d)/{re.escape(FILE)}$")
        try:
            paths = self._files.find(f"{self._root}/{kind.partition('/')[0]}")
        except FileNotFoundError:  # a bucket that nobody created yet holds as much as an empty one
            return []
        found = (partition.search(path) for path in paths)
        return sorted(date.fromisoformat(match[1]) for match in found if match)

    def _read_all(self, kind: str, days: list[date], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        with ThreadPoolExecutor(READERS) as pool:
            frames = list(pool.map(lambda day: self._read(kind, day, schema), days))
        missing = [day for day, frame in zip(days, frames, strict=True) if frame is None]
        if missing:
            raise BadInput(
                f"the lake {self.uri} has no {kind}{_ranges(missing)}; fill the gap with: "
                f"python -m include.fraud.ingest --first {missing[0]} --last {missing[-1]}"
                " (in Airflow: trigger ingest_transactions with these days)"
            )
        return pl.concat([pl.DataFrame(schema=schema), *(frame for frame in frames if frame is not None)])

    def _read(self, kind: str, day: date, schema: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
        path = self._path(kind, day)
        try:
            frame = pl.read_parquet(io.BytesIO(self._files.cat_file(path)))
        except FileNotFoundError:
            return None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise BadInput(
                f"{path} cannot be read as Parquet ({_first_line(error)}); write it anew with: "
                f"python -m include.fraud.ingest --first {day} --last {day}"
            ) from error
        if dict(frame.schema) != dict(schema):
            raise BadInput(f"{path} has the columns {dict(frame.schema)}, not {dict(schema)}: another program wrote it")
        return frame

    def _write(self, kind: str, day: date, frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> bytes:
        buffer = io.BytesIO()
        frame.select(pl.col(name).cast(to) for name, to in schema.items()).write_parquet(buffer, compression="zstd")
        content = buffer.getvalue()
        self.put(f"{kind}{day}/{FILE}", content)
        return content

    def _put(self, path: str, content: bytes) -> None:
        try:
            self._files.pipe_file(path, content)  # one request: an object store shows all of it or nothing
        except FileNotFoundError as error:
            raise BadInput(f"{self.uri} cannot be written: {error}; create the bucket or set MLOPS_LAKE_URI") from error

    def _remove(self, kind: str, day: date) -> None:
        if self._files.exists(self._path(kind, day)):
            self._files.rm_file(self._path(kind, day))


def days_between(first: date, last: date) -> Iterable[date]:
    """Every day from `first` to `last`, both inclusive."""
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def replace_file(path: Path, content: bytes) -> None:
    """Write a local file so that a reader, or a machine that loses power, finds the old one or the new one.

    What a writer that was killed left behind is cleaned. A writer of the same file at the same time may fail for it
    (FileNotFoundError, a retry helps), but never leaves half a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}-*"):
        left.unlink(missing_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the lake from the pods of another user
    Path(temporary).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _ranges(days: list[date]) -> str:
    """Days in order as text, neighbours joined: 2018-04-01..2018-04-03, 2018-04-07."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1][1:] = [day]
        else:
            runs.append([day])
    return ", ".join("..".join(str(day) for day in run) for run in runs)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
