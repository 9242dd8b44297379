"""The simulator: same seed and date, same day; frauds of three kinds, as many as published."""

from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.command import BadInput
from include.fraud.schema import ORDER, TRANSACTIONS, split_bad_rows
from include.fraud.simulator import LARGE_AMOUNT, Simulator
from tests.unit.fraud.conftest import START, day


@pytest.fixture(scope="module")
def published_size() -> pl.DataFrame:
    """Sixty days of the default size."""
    simulator = Simulator(42)
    return pl.concat(simulator.day(day(number)) for number in range(60))


def test_seed_and_date_determine_a_day():
    assert_frame_equal(Simulator(1, 100, 200).day(START), Simulator(1, 100, 200).day(START))
    assert not Simulator(1, 100, 200).day(START).equals(Simulator(2, 100, 200).day(START))
    drop = ["transaction_id", "tx_datetime"]
    one, next_one = (Simulator(1, 100, 200).day(day(number)).drop(drop).head(50) for number in (0, 1))
    assert not one.equals(next_one)


def test_a_day_does_not_depend_on_the_days_made_before(small):
    alone = Simulator(small.seed, small.customers, small.terminals).day(day(40))
    for number in (39, 3, 41):
        small.day(day(number))
    assert_frame_equal(small.day(day(40)), alone)


def test_transactions_and_labels_are_of_the_same_day_and_say_no_scenario(small):
    transactions, labels = small.transactions(START), small.labels(START)
    assert dict(transactions.schema) == TRANSACTIONS
    assert labels.columns == ["transaction_id", "tx_fraud"]
    assert transactions["transaction_id"].equals(labels["transaction_id"])


def test_every_row_is_good_and_in_order_and_ids_are_unique(published_size):
    for (when,), frame in published_size.group_by(pl.col("tx_datetime").dt.date(), maintain_order=True):
        good, rejected = split_bad_rows(frame.select(*TRANSACTIONS), when)
        assert rejected.is_empty()
        assert_frame_equal(good, frame.select(*TRANSACTIONS))
    assert published_size["transaction_id"].is_unique().all()
    assert published_size.select(*ORDER).equals(published_size.select(*ORDER).sort(ORDER))


def test_there_are_as_many_transactions_and_frauds_as_published(published_size):
    assert published_size.height / 60 == pytest.approx(9_600, rel=0.05)
    assert 0.007 < published_size["tx_fraud"].mean() < 0.0105
    by_scenario = dict(published_size.group_by("tx_fraud_scenario").len().iter_rows())
    assert set(by_scenario) == {0, 1, 2, 3}
    # Published, over 183 days: 973, 9077 and 4631.
    assert by_scenario[1] / 60 == pytest.approx(5.3, rel=0.4)
    assert by_scenario[2] / 60 == pytest.approx(53, rel=0.25)
    assert by_scenario[3] / 60 == pytest.approx(26, rel=0.25)
    assert ((published_size["tx_fraud_scenario"] > 0) == (published_size["tx_fraud"] == 1)).all()


def test_large_amounts_are_fraud(published_size):
    large = published_size.filter(pl.col("tx_amount") > LARGE_AMOUNT)
    assert (large["tx_fraud"] == 1).all()


def test_a_compromised_terminal_is_fraud_throughout_for_28_days(published_size):
    hit = published_size.filter(tx_fraud_scenario=2).with_columns(when=pl.col("tx_datetime").dt.date())
    spans = hit.group_by("terminal_id").agg(days=(pl.col("when").max() - pl.col("when").min()).dt.total_days() + 1)
    assert 20 < spans["days"].median() <= 28
    for terminal in spans.filter(pl.col("days") <= 28)["terminal_id"].head(20):
        of = hit.filter(terminal_id=terminal)
        during = published_size.filter(
            pl.col("terminal_id") == terminal,
            pl.col("tx_datetime").is_between(of["tx_datetime"].min(), of["tx_datetime"].max()),
        )
        assert (during["tx_fraud"] == 1).all()


def test_a_compromised_customer_has_a_third_fraud_at_five_times_the_amount(published_size):
    hit = published_size.filter(tx_fraud_scenario=3)
    usual = published_size.filter(tx_fraud=0).group_by("customer_id").agg(usual=pl.col("tx_amount").mean())
    factor = hit.join(usual, on="customer_id").select(pl.col("tx_amount").sum() / pl.col("usual").sum()).item()
    assert factor == pytest.approx(5, rel=0.1)
    ends = hit.group_by("customer_id").agg(a=pl.col("tx_datetime").min(), b=pl.col("tx_datetime").max(), n=pl.len())
    ends = ends.filter(pl.col("n") >= 8, (pl.col("b") - pl.col("a")).dt.total_days() < 14)
    during = published_size.join(ends, on="customer_id").filter(
        pl.col("tx_datetime").is_between("a", "b", closed="none")
    )
    assert (during["tx_fraud_scenario"] == 3).mean() == pytest.approx(1 / 3, abs=0.07)


def test_a_small_world_has_the_same_share_of_fraud():
    frame = pl.concat(Simulator(3, 250, 500).day(day(number)) for number in range(200))
    assert 0.005 < frame["tx_fraud"].mean() < 0.014
    assert frame.height / 200 / 250 == pytest.approx(1.94, rel=0.1)


def test_the_frauds_of_a_fixed_day_stay_what_they_are():
    """A change of the random streams changes every lake: it must be meant."""
    frame = Simulator(42).day(date(2018, 8, 1))
    assert (frame.height, frame["tx_fraud"].sum(), round(frame["tx_amount"].sum() * 100)) == (9866, 85, 53_688_767)


@pytest.mark.parametrize("wrong", [(-1, 10, 10), (1, 0, 10), (1, 10, 0)])
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(BadInput, match="the seed must be at least 0"):
        Simulator(*wrong)
