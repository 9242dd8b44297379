"""Which days the demo works on.

As of day A the labels of transactions up to A-7 are known. The folds that a retrain needs are in
`include.fraud.protocol`; the oldest day of them is A-41, and its features look 37 days further back.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from include.local.state import StackError

SIMULATED_AS_OF = date(2025, 6, 29)  # fixed, so that every demo shows the same figures
OLDEST_FOLD_DAY = 41
FEATURE_HISTORY = 37
NEXT = 7


@dataclass(frozen=True)
class DemoDays:
    """`first` … `as_of` is the history for the first retrain; `next_as_of` ends the week that then arrives."""

    first: date
    as_of: date
    next_as_of: date


def demo_days(source: str | None) -> DemoDays:
    """The simulator's fixed days, or the newest that the Parquet files of `source` hold."""
    if source is None:
        return _ending(SIMULATED_AS_OF + timedelta(days=NEXT))
    oldest, newest = _days_in(source)
    days = _ending(newest)
    if oldest > days.first:
        needed = (newest - days.first).days + 1
        raise StackError(
            f"{source} holds {oldest} to {newest}; two retrains a week apart need {needed} days, from {days.first} on:"
            " give files that reach back to there"
        )
    return days


def _ending(newest: date) -> DemoDays:
    as_of = newest - timedelta(days=NEXT)
    return DemoDays(as_of - timedelta(days=OLDEST_FOLD_DAY + FEATURE_HISTORY), as_of, newest)


def _days_in(source: str) -> tuple[date, date]:
    try:
        files = pl.scan_parquet(source)
        names = {name.lower(): name for name in files.collect_schema().names()}
        when = pl.col(names["tx_datetime"])
        oldest, newest = files.select(when.min().alias("oldest"), when.max().alias("newest")).collect().row(0)
    except KeyError:
        raise StackError(f"{source} has no column tx_datetime; name files with card transactions") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StackError(f"{source} cannot be read as Parquet ({error}); give a path or a quoted glob") from error
    if oldest is None:
        raise StackError(f"{source} holds no transaction; give files with at least {OLDEST_FOLD_DAY * 2} days")
    return oldest.date(), newest.date()
