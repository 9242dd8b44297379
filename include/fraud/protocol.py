"""Which rows train a model and which rows test it, when labels arrive a week late.

A prequential fold: a training window, a gap in which no label has arrived yet, a test window. The rows that a test
leaves out are those whose card would have been blocked by then.
Source: "Reproducible Machine Learning for Credit Card Fraud Detection" (Le Borgne et al., 2022), chapters 3 and 5.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from include.command import BadInput

WEEK = 7


@dataclass(frozen=True)
class Fold:
    """Three windows of whole UTC days, one after the other; lengths in days."""

    train_first: date
    train_days: int = WEEK
    delay_days: int = WEEK
    test_days: int = WEEK

    def __post_init__(self) -> None:
        for name, least in (("train_days", 1), ("delay_days", 0), ("test_days", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}={getattr(self, name)}: at least {least} is needed")

    @property
    def train_last(self) -> date:
        """The training window's last day, inclusive."""
        return self.train_first + timedelta(days=self.train_days - 1)

    @property
    def test_first(self) -> date:
        """The first day after the gap."""
        return self.train_last + timedelta(days=self.delay_days + 1)

    @property
    def test_last(self) -> date:
        """The test window's last day, inclusive."""
        return self.test_first + timedelta(days=self.test_days - 1)

    def validation(self) -> "Fold":
        """The fold on which parameters are chosen: earlier by gap and test, so its test ends with the training window.

        With the published lengths that is 14 days earlier, and not one of its days is a day of this fold's test.
        """
        return replace(self, train_first=self.train_first - timedelta(days=self.delay_days + self.test_days))

    def trained_on(self, days: int) -> "Fold":
        """The same test window after a training window of `days` that ends on the same day."""
        return replace(self, train_first=self.train_last - timedelta(days=days - 1), train_days=days)


def prequential_folds(first: date, folds: int = 4, step_days: int = WEEK) -> list[Fold]:
    """`folds` folds in order of time; the first one's training week starts on `first`, the next `step_days` later."""
    if folds < 1:
        raise BadInput(f"folds={folds}: at least 1 is needed")
    return [Fold(first + timedelta(days=step_days * number)) for number in range(folds)]


def rows_to_train(transactions: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """The labelled rows of the training window, in the order given. Needs tx_datetime (UTC) and tx_fraud.

    Raises BadInput when the window holds no fraud or nothing but fraud.
    """
    rows = _window(transactions, fold.train_first, fold.train_last)
    return _with_both_classes(rows, f"training window {fold.train_first} to {fold.train_last}")


def rows_to_test(transactions: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    """The rows of the test window without the customers already known to be defrauded, in the order given.

    Day k of the test (0, 1, …) leaves out customers with a fraud from the training window's first day up to and
    including the day k days after its last: labels are `delay_days` old when they arrive, so this is what is known.
    Needs tx_datetime (UTC), customer_id and tx_fraud, also of the days in the gap.
    Raises BadInput when no fraud or nothing but fraud is left.
    """
    rows = _window(transactions, fold.test_first, fold.test_last)
    label_known_after = timedelta(days=fold.delay_days + 1)
    first_frauds = (
        _window(transactions, fold.train_first, fold.test_last)
        .filter(pl.col("tx_fraud") == 1)
        .group_by("customer_id")
        .agg((_day().min() + label_known_after).alias("_blocked_from"))
    )
    kept = (
        rows.join(first_frauds, on="customer_id", how="left", maintain_order="left")
        .filter(pl.col("_blocked_from").is_null() | (_day() < pl.col("_blocked_from")))
        .drop("_blocked_from")
    )
    return _with_both_classes(kept, f"test window {fold.test_first} to {fold.test_last}")


def _day() -> pl.Expr:
    return pl.col("tx_datetime").dt.date()


def _window(transactions: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    missing = {"tx_datetime", "customer_id", "tx_fraud"} - set(transactions.columns)
    if missing:
        raise BadInput(f"the transactions have no column {sorted(missing)}: join the labels and keep the identifiers")
    return transactions.filter(_day().is_between(first, last))


def _with_both_classes(rows: pl.DataFrame, window: str) -> pl.DataFrame:
    frauds = int(rows["tx_fraud"].sum() or 0)
    if frauds in (0, len(rows)):
        raise BadInput(f"{window}: {frauds} frauds in {len(rows)} rows, both classes are needed; choose another window")
    return rows
