"""Which rows train and which test: the published counts, and each rule by hand."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pytest

from include.command import BadInput
from include.fraud.protocol import Fold, prequential_folds, rows_to_test, rows_to_train
from include.fraud.schema import LABELS, TRANSACTIONS, conform

FIRST = date(2018, 7, 25)


def transactions(rows: Sequence[tuple[int, int, int]]) -> pl.DataFrame:
    """From (days after FIRST, customer, fraud), each at the last second of its day."""
    moments = [datetime(2018, 7, 25, 23, 59, 59) + timedelta(days=number) for number, _, _ in rows]
    return pl.DataFrame(
        {"tx_datetime": moments, "customer_id": [row[1] for row in rows], "tx_fraud": [row[2] for row in rows]},
        schema_overrides={"tx_datetime": pl.Datetime("ms", "UTC")},
    )


def customers_left(rows: Sequence[tuple[int, int, int]]) -> list[int]:
    """The customers of the test rows among `rows` and two that make sure that both classes are there."""
    kept = rows_to_test(transactions([*rows, (14, 98, 0), (14, 99, 1)]), Fold(FIRST))
    return [customer for customer in kept["customer_id"] if customer < 98]


def test_published_counts(real_data: str) -> None:
    given = pl.read_parquet(real_data)
    rows = conform(given, TRANSACTIONS | {"tx_fraud": LABELS["tx_fraud"]}, "the published set")
    training, test = rows_to_train(rows, Fold(FIRST)), rows_to_test(rows, Fold(FIRST))
    assert (len(training), training["tx_fraud"].sum()) == (67_240, 598)
    assert (len(test), test["tx_fraud"].sum()) == (58_264, 385)


def test_windows_and_what_comes_before_and_after() -> None:
    fold = Fold(FIRST)
    assert (fold.train_last, fold.test_first, fold.test_last) == (
        date(2018, 7, 31),
        date(2018, 8, 8),
        date(2018, 8, 14),
    )
    rows = transactions([(-1, 1, 0), (0, 2, 1), (6, 3, 0), (7, 4, 1)])
    assert rows_to_train(rows, fold)["customer_id"].to_list() == [2, 3]
    assert customers_left([(13, 1, 0), (14, 2, 0), (20, 3, 0), (21, 4, 0)]) == [2, 3]


@pytest.mark.parametrize(
    ("fraud_on", "tested_on", "kept"),
    [
        (-1, 14, True),  # before the training week: not looked back at
        (0, 14, False),
        (6, 14, False),  # day 0 of the test knows the training week's last day
        (7, 14, True),  # and not the day after
        (7, 15, False),  # which day 1 knows
        (12, 20, False),
        (13, 20, True),
        (14, 20, True),  # a fraud of the test week itself is not known within it
    ],
)
def test_known_customers_are_left_out_once_their_label_has_arrived(fraud_on: int, tested_on: int, kept: bool) -> None:
    assert customers_left([(fraud_on, 1, 1), (tested_on, 1, 0)])[-1:] == ([1] if kept else [])


def test_a_second_fraud_does_not_free_a_customer() -> None:
    assert customers_left([(3, 1, 1), (13, 1, 1), (14, 1, 0)]) == []


def test_other_lengths() -> None:
    fold = Fold(FIRST, train_days=14, delay_days=3, test_days=2)
    assert (fold.train_last, fold.test_first, fold.test_last) == (
        date(2018, 8, 7),
        date(2018, 8, 11),
        date(2018, 8, 12),
    )
    rows = transactions([(13, 1, 1), (17, 1, 0), (14, 2, 1), (17, 2, 0), (17, 3, 1), (18, 2, 0)])
    assert rows_to_test(rows, fold)["customer_id"].to_list() == [2, 3]


def test_validation_ends_before_the_test_begins() -> None:
    for fold in (Fold(FIRST), Fold(FIRST, train_days=28, delay_days=0, test_days=3)):
        validation = fold.validation()
        assert validation.test_last == fold.train_last
        assert validation.train_last < validation.test_first or fold.delay_days == 0
        assert validation.test_last < fold.test_first
    assert Fold(FIRST).validation().train_first == date(2018, 7, 11)


def test_a_longer_training_window_ends_on_the_same_day() -> None:
    longer = Fold(FIRST).trained_on(28)
    assert (longer.train_first, longer.train_last) == (date(2018, 7, 4), Fold(FIRST).train_last)
    assert longer.test_first == Fold(FIRST).test_first


def test_folds_follow_each_other_by_a_week() -> None:
    assert [fold.train_first.isoformat() for fold in prequential_folds(FIRST)] == [
        "2018-07-25",
        "2018-08-01",
        "2018-08-08",
        "2018-08-15",
    ]


def test_bad_lengths_and_empty_windows_are_refused() -> None:
    for lengths in ({"train_days": 0}, {"delay_days": -1}, {"test_days": 0}):
        with pytest.raises(BadInput, match=next(iter(lengths))):
            Fold(FIRST, **lengths)
    with pytest.raises(BadInput, match="folds=0"):
        prequential_folds(FIRST, folds=0)
    with pytest.raises(BadInput, match="0 frauds in 1 rows"):
        rows_to_train(transactions([(0, 1, 0)]), Fold(FIRST))
    with pytest.raises(BadInput, match="0 frauds in 0 rows"):
        rows_to_test(transactions([(0, 1, 0)]), Fold(FIRST))
    with pytest.raises(BadInput, match=r"no column .*tx_fraud"):
        rows_to_train(transactions([(0, 1, 0)]).drop("tx_fraud"), Fold(FIRST))
