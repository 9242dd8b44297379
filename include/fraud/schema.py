"""What a transaction and a label are, and which rows are not good enough for the lake.

A transaction is what is known at once; its label (was it fraud?) is known LABEL_DELAY_DAYS later and lives in a table
of its own. The handbook's derived columns are dropped by name: one of them, the fraud scenario, *is* the label.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl

from include.command import BadInput

MAX_BAD_SHARE = 0.01
"""A day with a larger share of bad rows is a broken delivery, not a few broken rows."""

MAX_AMOUNT = 1e9
"""Up to here a float holds whole cents, and 2^63 cents hold ninety million such amounts."""

TRANSACTIONS: dict[str, pl.DataType] = {
    "transaction_id": pl.Int64(),
    "tx_datetime": pl.Datetime("ms", "UTC"),
    "customer_id": pl.Int64(),
    "terminal_id": pl.Int64(),
    "tx_amount": pl.Float64(),
}
LABELS: dict[str, pl.DataType] = {"transaction_id": pl.Int64(), "tx_fraud": pl.Int8()}
DERIVED = ("tx_time_seconds", "tx_time_days", "tx_fraud_scenario")
ORDER = ("tx_datetime", "transaction_id")
"""Everywhere: rows in order of time, ties in order of their id."""

_TIME, _AMOUNT = pl.col("tx_datetime"), pl.col("tx_amount")
_ROW = pl.struct(*TRANSACTIONS)
_CENT_TOLERANCE = 1e-4  # in cents: a float near MAX_AMOUNT is off by less, a half cent by more


def bad_row_rules(day: date) -> list[tuple[str, pl.Expr]]:
    """(reason, which rows) in the order in which they are asked; a row is rejected for the first that holds."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC)
    cents = _AMOUNT * 100
    return [
        ("missing_id", pl.any_horizontal(pl.col("transaction_id", "customer_id", "terminal_id").is_null())),
        ("missing_time", _TIME.is_null()),
        ("outside_day", ~_TIME.is_between(first, first + timedelta(days=1), closed="left")),
        ("amount_not_a_number", _AMOUNT.is_null() | ~_AMOUNT.is_finite()),
        ("negative_amount", _AMOUNT < 0),
        ("amount_too_large", _AMOUNT > MAX_AMOUNT),
        ("fraction_of_a_cent", (cents - cents.round()).abs() > _CENT_TOLERANCE),
        ("conflicting_duplicate", _ROW.is_first_distinct().cast(pl.UInt32).sum().over("transaction_id") > 1),
        ("repeated", ~_ROW.is_first_distinct()),
    ]


def conform(frame: pl.DataFrame, schema: Mapping[str, pl.DataType], what: str) -> pl.DataFrame:
    """The columns of `schema` in its order and types; `what` names the frame in messages ("orders.parquet").

    Names may be in any case. Integers of any width are cast; a time without zone is UTC, another zone is converted.
    Raises BadInput for an unknown or missing column and for a type that does not fit.
    """
    frame = frame.rename(lower_names(frame.columns, what))
    check_columns(frame.columns, schema, what)
    try:
        return frame.select(_converted(name, frame.schema[name], to, what) for name, to in schema.items())
    except pl.exceptions.InvalidOperationError as error:
        raise BadInput(f"{what}: a value does not fit its column's type: {error}; correct it at the source") from error


def lower_names(names: list[str], what: str) -> dict[str, str]:
    """Each name to its lower-case form. Raises BadInput when two become the same."""
    lower = {name: name.lower() for name in names}
    if len(set(lower.values())) < len(lower):
        raise BadInput(f"{what}: {sorted(names)} holds one column twice in different case; keep one of them")
    return lower


def check_columns(names: list[str], schema: Mapping[str, pl.DataType], what: str) -> None:
    """Raise BadInput unless lower-case `names` hold all of `schema` and nothing that nobody knows."""
    unknown = sorted(set(names) - {*TRANSACTIONS, *LABELS, *DERIVED})
    if unknown:
        raise BadInput(
            f"{what}: unknown column {', '.join(unknown)}; a transaction has {', '.join(TRANSACTIONS)} and perhaps "
            f"tx_fraud; drop the column at the source, for it could give the label away"
        )
    missing = [name for name in schema if name not in names]
    if missing:
        raise BadInput(f"{what}: no column {', '.join(missing)}; it has {', '.join(names)}; name it so at the source")


def _converted(name: str, given: pl.DataType, wanted: pl.DataType, what: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(given, pl.Datetime) and isinstance(wanted, pl.Datetime):
        column = column.dt.convert_time_zone("UTC") if given.time_zone else column.dt.replace_time_zone("UTC")
        return column.cast(wanted)
    fits = given.is_integer() if wanted.is_integer() else given.is_numeric() and wanted.is_numeric()
    if not fits:
        raise BadInput(f"{what}: column {name} is {given}, {wanted} is needed; write it with that type at the source")
    return column.cast(wanted)


def split_bad_rows(frame: pl.DataFrame, day: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good rows of the UTC day, rejected rows with a `reason`), both with TRANSACTIONS and in ORDER.

    Amounts of good rows are rounded to the float nearest to their whole cents.
    """
    reason = pl.coalesce(pl.when(rule).then(pl.lit(reason)) for reason, rule in bad_row_rules(day))
    judged = frame.with_columns(reason=reason).sort(ORDER, maintain_order=True)
    good = judged.filter(pl.col("reason").is_null()).drop("reason")
    return good.with_columns(_AMOUNT.round(2)), judged.filter(pl.col("reason").is_not_null())


def bad_rows_by_reason(rejected: pl.DataFrame) -> dict[str, int]:
    """How many rows were rejected for each reason, in order of the reason's name."""
    return dict(rejected.group_by("reason").len().sort("reason").iter_rows())


def refuse_broken_day(good: pl.DataFrame, rejected: pl.DataFrame, day: date) -> None:
    """Raise BadInput for a day without rows, or with more bad ones than MAX_BAD_SHARE."""
    rows = good.height + rejected.height
    if not rows:
        raise BadInput(f"{day}: the source has no transaction of that day; a day without any is a failed delivery")
    if rejected.height > MAX_BAD_SHARE * rows:
        reasons = ", ".join(f"{reason} {count}" for reason, count in bad_rows_by_reason(rejected).items())
        raise BadInput(
            f"{day}: {rejected.height} of {rows} rows are bad ({reasons}), more than {MAX_BAD_SHARE:.0%}; "
            f"nothing was written; correct the source and ingest the day again"
        )


def checked_labels(labels: pl.DataFrame, what: str) -> pl.DataFrame:
    """Labels that are known, one for each transaction: null is not known, and neither is what two rows contradict.

    Raises BadInput for any other value than 0 and 1.
    """
    odd = labels.filter(~pl.col("tx_fraud").is_in([0, 1])).get_column("tx_fraud").unique().sort().to_list()
    if odd:
        raise BadInput(f"{what}: tx_fraud holds {odd}; only 0 (genuine) and 1 (fraud) are labels")
    known = labels.drop_nulls().unique(maintain_order=True)
    return known.filter(~pl.col("transaction_id").is_duplicated())
