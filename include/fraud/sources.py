"""Where transactions come from: the simulator, or Parquet files somebody else writes."""

from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import NamedTuple, Protocol

import fsspec
import polars as pl

from include.command import BadInput
from include.fraud.schema import DERIVED, LABELS, TRANSACTIONS, check_columns, checked_labels, conform, lower_names
from include.fraud.simulator import Simulator
from include.settings import settings

SIMULATOR = "simulator"
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


class Source(Protocol):
    """Gives a UTC day's transactions, and their labels as they are known in the end."""

    def has(self, day: date) -> bool:
        """Whether `day` lies within the days that the source covers."""

    def transactions(self, day: date) -> pl.DataFrame:
        """The day's rows, good and bad, columns TRANSACTIONS. Raises BadInput for a day it does not cover."""

    def labels(self, day: date) -> pl.DataFrame:
        """Labels of the day's transactions, columns LABELS. Raises BadInput for a day it does not cover."""


class Span(NamedTuple):
    """The first and the last day, both inclusive."""

    first: date
    last: date


def open_source(spec: str) -> Source:
    """The source that the setting MLOPS_SOURCE names: ``simulator``, or a path or s3:// glob of Parquet files."""
    return Simulator(settings().simulator_seed) if spec == SIMULATOR else ParquetSource(spec)


class ParquetSource:
    """Parquet files with the columns of TRANSACTIONS and tx_fraud, in upper or lower case, with the handbook's derived
    columns or without. Raises BadInput when nothing matches, a file cannot be read or the columns are not those.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        files, path = fsspec.core.url_to_fs(pattern, use_listings_cache=False)
        found = sorted(str(name) for name in files.glob(path))
        if not found:
            raise BadInput(
                f"MLOPS_SOURCE={pattern}: no file matches; give a path or glob of Parquet files, or `{SIMULATOR}`"
            )
        self._paths = [str(files.unstrip_protocol(name)) if "://" in pattern else name for name in found]
        self._scan = pl.scan_parquet(self._paths, glob=False)
        self._names = self._named()

    def has(self, day: date) -> bool:
        """Whether `day` lies between the first and the last transaction's day."""
        return self._span.first <= day <= self._span.last

    def transactions(self, day: date) -> pl.DataFrame:
        """The day's transactions, columns TRANSACTIONS; rows that are no good included."""
        return conform(self._rows(day, TRANSACTIONS), TRANSACTIONS, self.pattern)

    def labels(self, day: date) -> pl.DataFrame:
        """Labels of the day's transactions, columns LABELS; a null label is one that nobody knows."""
        return checked_labels(conform(self._rows(day, LABELS), LABELS, self.pattern), self.pattern)

    def _named(self) -> dict[str, str]:
        """Each column's lower-case name to its name in the files."""
        try:
            names = self._scan.collect_schema().names()
        except UNREADABLE as error:
            raise self._broken(error) from error
        lower = lower_names(names, self.pattern)
        check_columns(list(lower.values()), {**TRANSACTIONS, **LABELS}, self.pattern)
        return {short: name for name, short in lower.items() if short not in DERIVED}

    def _rows(self, day: date, columns: dict[str, pl.DataType]) -> pl.DataFrame:
        if not self.has(day):
            raise BadInput(
                f"{self.pattern} has no transactions of {day}: it covers {self._span.first} to {self._span.last}; "
                f"choose days within"
            )
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        time = pl.col(self._names["tx_datetime"])
        # The bounds take the column's own type, so that the reader skips row groups by their statistics.
        wanted = time.is_between(self._as_in_files(start), self._as_in_files(start + timedelta(days=1)), closed="left")
        return self._collect(self._scan.filter(wanted).select(self._names[name] for name in columns))

    def _as_in_files(self, moment: datetime) -> pl.Expr:
        stored = self._scan.collect_schema()[self._names["tx_datetime"]]
        if not isinstance(stored, pl.Datetime):
            raise BadInput(f"{self.pattern}: column tx_datetime is {stored}, a Datetime is needed; write it as one")
        literal = pl.lit(moment).dt.convert_time_zone(stored.time_zone or "UTC")
        return (literal if stored.time_zone else literal.dt.replace_time_zone(None)).dt.cast_time_unit(stored.time_unit)

    @cached_property
    def _span(self) -> Span:
        time = pl.col(self._names["tx_datetime"])
        ends = self._collect(self._scan.select(first=time.min(), last=time.max(), timeless=time.is_null().sum()))
        first, last, timeless = ends.row(0)
        if timeless:
            raise BadInput(
                f"{self.pattern}: {timeless} rows have no tx_datetime and so belong to no day; "
                f"complete them or take them out at the source"
            )
        if first is None:
            raise BadInput(f"{self.pattern}: the files hold no row; name files with transactions")
        if not isinstance(first, datetime):
            raise BadInput(f"{self.pattern}: column tx_datetime holds {first!r}, a Datetime is needed; write it as one")
        utc = [moment.astimezone(UTC) if moment.tzinfo else moment for moment in (first, last)]
        return Span(utc[0].date(), utc[1].date())

    def _collect(self, query: pl.LazyFrame) -> pl.DataFrame:
        try:
            return query.collect()
        except UNREADABLE as error:
            raise self._broken(error) from error

    def _broken(self, error: BaseException) -> BadInput:
        """Name the file, which the reader of many files does not."""
        for path in self._paths:
            try:
                pl.scan_parquet(path, glob=False).collect_schema()
            except UNREADABLE as own:
                return BadInput(f"{path} cannot be read as Parquet ({_first_line(own)}); deliver it again, whole")
        return BadInput(f"{self.pattern} cannot be read ({_first_line(error)}); all files need the same columns")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
