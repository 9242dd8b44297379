"""The lake as histories of customers and terminals, packed as `online` reads them."""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from include.command import BadInput
from include.fraud.lake import Lake, days_between
from include.fraud.online import KINDS
from include.fraud.schema import LABELS
from include.fraud.windows import HISTORY_DAYS, LABEL_DELAY_DAYS
from include.settings import settings

log = logging.getLogger(__name__)

CENTS = (pl.col("tx_amount") * 100).round().cast(pl.Int64)
VALUES = {"customer": CENTS, "terminal": pl.col("tx_fraud").fill_null(0).cast(pl.Int64)}

History = dict[str, list[tuple[int, bytes]]]


def histories(last: date, as_of: date) -> History:
    """Of every kind, each entity's events that a transaction after day `last` can reach, with labels known on `as_of`.

    A day that the lake does not have is left out, with a warning: a service does better with a gap in its histories
    than with none of the days since. Raises BadInput when the lake has no day of them.
    """
    lake = Lake(settings().lake_uri)
    wanted = list(days_between(last - timedelta(days=HISTORY_DAYS), last))
    held = set(lake.days())
    days = [day for day in wanted if day in held]
    if not days:
        raise BadInput(f"the lake {lake.uri} has no day from {wanted[0]} to {last}: run ingest_transactions first")
    missing = [day for day in wanted if day > days[0] and day not in held]
    if missing:
        log.warning("histories have gaps: the lake has no %s", ", ".join(map(str, missing)))
    label_days = set(lake.label_days())
    labelled = [day for day in days if day + timedelta(days=LABEL_DELAY_DAYS) in label_days]
    labels = pl.concat([pl.DataFrame(schema=LABELS), *(lake.labels(as_of, day, day) for day in labelled)])
    transactions = pl.concat(lake.transactions(day, day) for day in days)
    return packed(transactions.join(labels, on="transaction_id", how="left", maintain_order="left"))


def newest_day() -> date:
    """The last day in the lake. Raises BadInput when it is empty."""
    days = Lake(settings().lake_uri).days()
    if not days:
        raise BadInput(f"the lake {settings().lake_uri} is empty: run ingest_transactions first")
    return max(days)


def packed(transactions: pl.DataFrame) -> History:
    """Of every kind, each entity's events; `transactions` have tx_fraud, null where it is not known."""
    return {kind: list(_packed(transactions, kind)) for kind in KINDS}


def end_of(day: date) -> int:
    """In milliseconds since 1970 UTC."""
    return (
        int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + timedelta(days=1).total_seconds()) * 1000
    )


def _packed(transactions: pl.DataFrame, kind: str) -> Iterator[tuple[int, bytes]]:
    rows = transactions.select(
        pl.col(f"{kind}_id").alias("entity"),
        pl.col("tx_datetime").to_physical().alias("time"),
        pl.col("transaction_id").alias("id"),
        VALUES[kind].alias("value"),
    ).sort("entity", "time", "id")
    events = rows.select("time", "id", "value").to_numpy().astype("<i8")
    entities, starts = np.unique(rows["entity"].to_numpy(), return_index=True)
    ends = [*starts[1:], len(events)]
    for entity, start, end in zip(entities.tolist(), starts, ends[: len(starts)], strict=True):
        yield entity, events[start:end].tobytes()
