"""The lake as histories of customers and terminals, packed as `online` reads them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from include.command import BadInput
from include.fraud.features import labelled_history
from include.fraud.lake import Lake
from include.fraud.online import KINDS
from include.settings import settings

CENTS = (pl.col("tx_amount") * 100).round().cast(pl.Int64)
VALUES = {"customer": CENTS, "terminal": pl.col("tx_fraud").fill_null(0).cast(pl.Int64)}

History = dict[str, list[tuple[int, bytes]]]


def histories(last: date, as_of: date) -> History:
    """Of every kind, each entity's events that a transaction after day `last` can reach, with labels known on `as_of`.

    Raises BadInput where a day is missing in the lake.
    """
    return packed(labelled_history(Lake(settings().lake_uri), last, last, as_of))


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
    for entity, some in zip(entities.tolist(), np.split(events, starts[1:]), strict=True):
        yield entity, some.tobytes()
