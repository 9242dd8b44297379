"""Which columns and rows are good enough for the lake."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.command import BadInput
from include.fraud.schema import (
    LABELS,
    MAX_BAD_SHARE,
    TRANSACTIONS,
    bad_rows_by_reason,
    checked_labels,
    conform,
    refuse_broken_day,
    split_bad_rows,
)
from include.fraud.simulator import Simulator
from tests.unit.fraud.conftest import START

NOON = datetime(2018, 4, 1, 12, tzinfo=UTC)
GOOD = {"transaction_id": 1, "tx_datetime": NOON, "customer_id": 2, "terminal_id": 3, "tx_amount": 4.05}


def rows(*changes: dict) -> pl.DataFrame:
    return pl.DataFrame([{**GOOD, **change} for change in changes], schema=TRANSACTIONS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transaction_id": None}, "missing_id"),
        ({"customer_id": None}, "missing_id"),
        ({"terminal_id": None}, "missing_id"),
        ({"tx_datetime": None}, "missing_time"),
        ({"tx_datetime": NOON - timedelta(hours=12, milliseconds=1)}, "outside_day"),
        ({"tx_datetime": NOON + timedelta(hours=12)}, "outside_day"),
        ({"tx_amount": None}, "amount_not_a_number"),
        ({"tx_amount": float("nan")}, "amount_not_a_number"),
        ({"tx_amount": float("inf")}, "amount_not_a_number"),
        ({"tx_amount": -float("inf")}, "amount_not_a_number"),
        ({"tx_amount": -0.01}, "negative_amount"),
        ({"tx_amount": 1e300}, "amount_too_large"),
        ({"tx_amount": 1.005}, "fraction_of_a_cent"),
        ({"tx_amount": 999_999_999.995}, "fraction_of_a_cent"),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_its_reason(change, reason):
    good, rejected = split_bad_rows(rows({}, {"transaction_id": 9, **change}), START)
    assert good.rows() == rows({}).rows()
    assert rejected.columns == [*TRANSACTIONS, "reason"]
    assert rejected["reason"].to_list() == [reason]


@pytest.mark.parametrize(
    "change",
    [
        {"tx_amount": 0.0},
        {"tx_amount": 1e9},
        {"tx_amount": 999_999_999.99},
        {"tx_datetime": NOON - timedelta(hours=12)},
        {"tx_datetime": NOON + timedelta(hours=12) - timedelta(milliseconds=1)},
        {"customer_id": -5},
    ],
)
def test_a_row_at_the_edge_is_good(change):
    good, rejected = split_bad_rows(rows(change), START)
    assert good.rows() == rows(change).rows()
    assert rejected.is_empty()


def test_of_a_repeated_row_one_is_kept():
    good, rejected = split_bad_rows(rows({}, {}, {}, {"transaction_id": 5}), START)
    assert good["transaction_id"].to_list() == [1, 5]
    assert bad_rows_by_reason(rejected) == {"repeated": 2}


def test_all_rows_of_a_conflicting_id_go_to_quarantine():
    good, rejected = split_bad_rows(rows({}, {}, {"tx_amount": 9.0}, {"transaction_id": 5}), START)
    assert good["transaction_id"].to_list() == [5]
    assert bad_rows_by_reason(rejected) == {"conflicting_duplicate": 3}


def test_good_rows_are_in_order_and_hold_the_float_nearest_to_their_cents():
    unrounded = 12.34 * 5  # 61.699999999999996
    later, earlier = {"tx_amount": unrounded}, {"transaction_id": 7, "tx_datetime": NOON - timedelta(seconds=1)}
    good, _ = split_bad_rows(rows({"transaction_id": 3}, later, earlier), START)
    assert good["transaction_id"].to_list() == [7, 1, 3]
    assert good["tx_amount"].to_list() == [4.05, 61.70, 4.05]


def test_an_amount_of_whole_cents_keeps_its_bits():
    amounts = [cents / 100 for cents in range(20_000)]
    good, _ = split_bad_rows(rows(*({"transaction_id": n, "tx_amount": x} for n, x in enumerate(amounts))), START)
    assert good["tx_amount"].to_list() == amounts


def test_too_many_bad_rows_refuse_the_day_with_counts():
    frame = Simulator(1, 50, 100).transactions(START)
    limit = int(frame.height * MAX_BAD_SHARE)
    for bad, refused in ((limit, False), (limit + 1, True)):
        amounts = pl.Series([-1.0] * bad + [1.0] * (frame.height - bad))
        good, rejected = split_bad_rows(frame.with_columns(tx_amount=amounts), START)
        if refused:
            with pytest.raises(
                BadInput, match=rf"2018-04-01: {bad} of {frame.height} rows are bad \(negative_amount {bad}"
            ):
                refuse_broken_day(good, rejected, START)
        else:
            refuse_broken_day(good, rejected, START)


def test_an_empty_day_is_refused():
    with pytest.raises(BadInput, match="2018-04-01: the source has no transaction"):
        refuse_broken_day(*split_bad_rows(pl.DataFrame(schema=TRANSACTIONS), START), START)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [("transaction_id", pl.Int32), ("customer_id", pl.UInt16), ("terminal_id", pl.UInt64), ("tx_amount", pl.Float32)],
)
def test_numbers_of_any_width_are_cast(column, dtype):
    given = rows({"tx_amount": 4.5}).with_columns(pl.col(column).cast(dtype))
    assert_frame_equal(conform(given, TRANSACTIONS, "x"), rows({"tx_amount": 4.5}))


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo", "America/New_York"])
def test_times_become_utc_milliseconds(unit, zone):
    time = pl.col("tx_datetime").dt.cast_time_unit(unit)
    time = time.dt.convert_time_zone(zone) if zone else time.dt.replace_time_zone(None)
    assert_frame_equal(conform(rows({}).with_columns(time), TRANSACTIONS, "x"), rows({}))


def test_names_may_be_upper_case_and_derived_columns_are_dropped():
    given = rows({}).with_columns(tx_fraud_scenario=pl.lit(3), tx_time_days=pl.lit(0), tx_time_seconds=pl.lit(0))
    assert_frame_equal(conform(given.rename(str.upper), TRANSACTIONS, "x"), rows({}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (rows({}).with_columns(pan=pl.lit("4111")), "x: unknown column pan; .* drop the column"),
        (rows({}).drop("terminal_id"), "x: no column terminal_id; it has "),
        (rows({}).with_columns(TX_AMOUNT=pl.lit(1.0)), "one column twice"),
        (
            rows({}).with_columns(pl.col("customer_id").cast(pl.Float64)),
            "column customer_id is Float64, Int64 is needed",
        ),
        (rows({}).with_columns(pl.col("customer_id").cast(pl.String)), "column customer_id is String, Int64 is needed"),
        (rows({}).with_columns(pl.col("tx_amount").cast(pl.String)), "column tx_amount is String, Float64 is needed"),
        (rows({}).with_columns(pl.col("tx_datetime").dt.date()), "column tx_datetime is Date, Datetime"),
        (rows({}).with_columns(transaction_id=pl.lit(2**63, dtype=pl.UInt64)), "a value does not fit"),
    ],
)
def test_wrong_columns_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        conform(given, TRANSACTIONS, "x")


def test_labels_are_zero_or_one_and_unknown_ones_are_left_out():
    found = [(1, 1), (2, None), (3, 0), (1, 1), (4, 0), (4, 1)]  # 1 is repeated, 4 contradicts itself
    labels = pl.DataFrame(found, schema=LABELS, orient="row")
    assert checked_labels(labels, "x")["transaction_id"].to_list() == [1, 3]
    with pytest.raises(BadInput, match=r"x: tx_fraud holds \[2\]; only 0"):
        checked_labels(labels.with_columns(tx_fraud=pl.lit(2, dtype=pl.Int8)), "x")
