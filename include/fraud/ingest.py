"""Step: fill the lake's partitions of some days from the source.

    python -m include.fraud.ingest --first 2018-04-01 --last 2018-04-30

Day D gets the transactions of D, and the labels that became known on D: those of the transactions of
D - LABEL_DELAY_DAYS. Each day depends on the source alone, so days may be ingested in any order and again.
"""

import hashlib
from collections import Counter
from datetime import date, timedelta
from typing import Any

import polars as pl
from pydantic import Field

from include.command import BadInput, StepArgs, run
from include.fraud.lake import Lake, days_between
from include.fraud.schema import (
    LABELS,
    bad_rows_by_reason,
    refuse_broken_day,
    split_bad_rows,
)
from include.fraud.sources import Source, open_source
from include.fraud.windows import LABEL_DELAY_DAYS
from include.progress import track
from include.settings import settings


class IngestArgs(StepArgs):
    """Which days."""

    first: date = Field(description="first UTC day to ingest")
    last: date = Field(description="last UTC day to ingest, inclusive")


def ingest(args: IngestArgs) -> dict[str, Any]:
    """Fill the partitions of the days. The answer tells rows, rejected rows and a digest of the files' bytes."""
    return fill(Lake(settings().lake_uri), open_source(settings().source), args.first, args.last)


def fill(lake: Lake, source: Source, first: date, last: date) -> dict[str, Any]:
    """Ingest the days `first` to `last`, both inclusive, each as a whole or not at all.

    The digest is the SHA-256 over the bytes of each day's files (labels, quarantine, transactions), day by day.
    Raises BadInput for a day that the source does not cover, that is empty or that has too many bad rows; the days
    before it are in the lake then, this one's partitions are untouched.
    """
    if first > last:
        raise BadInput(f"--first {first} is after --last {last}; swap them")
    digest, rows, rejections = hashlib.sha256(), 0, Counter[str]()
    days = list(days_between(first, last))
    for day in track(days, "ingest days"):
        good, rejected = split_bad_rows(source.transactions(day), day)
        refuse_broken_day(good, rejected, day)
        labels = _labels_known_on(day, source)
        digest.update(lake.write_labels(day, labels))
        digest.update(lake.write_quarantine(day, rejected))
        digest.update(lake.write_transactions(day, good))  # last: with it the day counts as ingested
        rows += good.height
        rejections.update(bad_rows_by_reason(rejected))
    return {
        "days": len(days),
        "rows": rows,
        "quarantined": dict(sorted(rejections.items())),
        "first": str(first),
        "last": str(last),
        "digest": digest.hexdigest(),
    }


def _labels_known_on(day: date, source: Source) -> pl.DataFrame:
    """Labels of the good transactions of LABEL_DELAY_DAYS ago; none at the source's beginning.

    The good ones are asked of the source, not of the lake: a lake that is filled backwards must come out the same.
    """
    then = day - timedelta(days=LABEL_DELAY_DAYS)
    if not source.has(then):
        return pl.DataFrame(schema=LABELS)
    good, _ = split_bad_rows(source.transactions(then), then)
    return good.select("transaction_id").join(source.labels(then), on="transaction_id", maintain_order="left")


if __name__ == "__main__":
    run(ingest)
