"""The fifteen inputs against their definition, spelt out row by row; and what a run may know on its day."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from include.command import BadInput
from include.fraud import features as module
from include.fraud.features import features, features_by_chunk, labelled_history
from include.fraud.ingest import fill
from include.fraud.lake import days_between
from include.fraud.schema import LABELS, TRANSACTIONS
from include.fraud.sources import ParquetSource
from include.fraud.windows import CUSTOMER_INPUTS, FEATURES, HISTORY_DAYS, TERMINAL_INPUTS
from tests.unit.fraud.conftest import START, day

DAY = 86_400_000
T0 = int(datetime(2018, 4, 1, tzinfo=UTC).timestamp()) * 1000
SPAN_DAYS = 45
Row = tuple[int, int, int, int, int, int | None]  # id, ms, customer, terminal, cents, fraud

# Steps of half a day make events that are exactly 1, 7, 14, 30 and 37 days apart, and ties; the odd millisecond, events
# just inside and just outside.
moments = st.builds(
    lambda half_days, off: min(max(T0, T0 + half_days * DAY // 2 + off), T0 + SPAN_DAYS * DAY - 1),
    st.integers(0, 2 * SPAN_DAYS),
    st.sampled_from([0, 0, 0, 1, -1, 7 * 3_600_000, 7 * 3_600_000 - 1]),
)
events = st.lists(
    st.tuples(
        moments,
        st.sampled_from([-3, 0, 70_000, 2**40]),
        st.sampled_from([1, 2]),
        st.integers(0, 100_000),
        st.sampled_from([0, 1, 1, None]),
    ),
    max_size=40,
).map(lambda rows: [(number, *row) for number, row in enumerate(rows)])


def frame(rows: list[Row]) -> pl.DataFrame:
    names = [*TRANSACTIONS, "tx_fraud"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {name: [] for name in names}
    columns["tx_amount"] = [cents / 100 for cents in columns["tx_amount"]]  # in Python: Polars divides another way
    made = pl.DataFrame(columns, schema={**TRANSACTIONS, "tx_datetime": pl.Int64(), "tx_fraud": pl.Int8()})
    return made.with_columns(pl.col("tx_datetime").cast(pl.Datetime("ms", "UTC")))


def by_definition(rows: list[Row], this: Row) -> list[float]:
    """The inputs of `this`, as a person would count them."""
    number, now, customer, terminal, cents, _ = this
    then = datetime.fromtimestamp(now / 1000, UTC)
    inputs = [cents / 100, float(then.weekday() >= 5), float(then.hour <= 6)]
    for w in (1, 7, 30):
        window = [r for r in rows if r[2] == customer and r[1] > now - w * DAY and (r[1], r[0]) <= (now, number)]
        inputs += [len(window), sum(r[4] for r in window) / len(window) / 100]
    for w in (1, 7, 30):
        window = [r for r in rows if r[3] == terminal and now - (7 + w) * DAY < r[1] <= now - 7 * DAY]
        inputs += [len(window), sum(r[5] or 0 for r in window) / len(window) if window else 0.0]
    return inputs


@settings(max_examples=400)
@given(rows=events, first=st.integers(0, SPAN_DAYS), length=st.integers(0, SPAN_DAYS), shuffled=st.randoms())
@example(rows=[(0, T0, 0, 1, 5, 1), (1, T0 + 7 * DAY, 0, 1, 7, 0)], first=0, length=20, shuffled=None)
@example(rows=[(0, T0 + 1, 0, 1, 5, 1), (1, T0 + 8 * DAY, 0, 1, 7, 0)], first=0, length=20, shuffled=None)
@example(rows=[(0, T0, 0, 1, 5, 1), (1, T0 + 37 * DAY, 0, 1, 7, 0)], first=37, length=0, shuffled=None)
@example(rows=[(0, T0 + 1, 0, 1, 5, 1), (1, T0 + 37 * DAY, 0, 1, 7, 0)], first=37, length=0, shuffled=None)
def test_all_inputs_equal_their_definition(rows, first, length, shuffled):
    given_rows = list(rows)
    if shuffled:
        shuffled.shuffle(given_rows)
    last = first + length
    found = features(frame(given_rows), day(first), day(last))
    asked = sorted((r for r in rows if T0 + first * DAY <= r[1] < T0 + (last + 1) * DAY), key=lambda r: (r[1], r[0]))
    assert found["transaction_id"].to_list() == [r[0] for r in asked]
    assert found["tx_fraud"].to_list() == [r[5] for r in asked]
    for row, inputs in zip(asked, found.select(FEATURES).iter_rows(), strict=True):
        assert inputs == pytest.approx(by_definition(rows, row), abs=1e-9)


def test_there_are_fifteen_inputs_in_the_agreed_order():
    assert FEATURES == (
        "tx_amount",
        "tx_during_weekend",
        "tx_during_night",
        "customer_nb_tx_1d",
        "customer_avg_amount_1d",
        "customer_nb_tx_7d",
        "customer_avg_amount_7d",
        "customer_nb_tx_30d",
        "customer_avg_amount_30d",
        "terminal_nb_tx_1d",
        "terminal_risk_1d",
        "terminal_nb_tx_7d",
        "terminal_risk_7d",
        "terminal_nb_tx_30d",
        "terminal_risk_30d",
    )
    assert len(CUSTOMER_INPUTS) == len(TERMINAL_INPUTS) == 6
    found = features(frame([]), START, START)
    assert found.columns == [*TRANSACTIONS, *FEATURES[1:], "tx_fraud"]
    assert all(found.schema[name] == pl.Float64 for name in FEATURES)


def test_sums_of_amounts_are_exact():
    """Added as floats, a large amount swallows the cents of a thousand small ones."""
    rows = [(n, T0 + n, 1, 1, 10**11 if n == 0 else 1, 0) for n in range(1001)]
    mean = features(frame(rows), START, START)["customer_avg_amount_1d"][-1]
    assert mean == (10**11 + 1000) / 1001 / 100


def test_keys_that_would_overflow_are_refused(monkeypatch):
    monkeypatch.setattr(module, "MAX_KEY", 10 * 39 * DAY)
    rows = [(n, T0 + n, n, n, 1, 0) for n in range(12)]
    with pytest.raises(BadInput, match=r"1\d customers or terminals over 38 days do not fit .*features_by_chunk"):
        features(frame(rows), START, START)


def test_any_64_bit_id_is_an_entity():
    ends = [-(2**63), 2**63 - 1, 0, -(2**63), 2**63 - 1]
    rows = [(n, T0 + n, entity, entity, 100, 0) for n, entity in enumerate(ends)]
    assert features(frame(rows), START, START)["customer_nb_tx_1d"].to_list() == [1, 1, 1, 2, 2]


def test_only_labels_known_on_the_day_are_used(lake, small):
    fill(lake, small, START, day(30))
    history = labelled_history(lake, day(10), day(12), as_of=day(15))
    known = history.filter(pl.col("tx_fraud").is_not_null())["tx_datetime"]
    assert (known.min().date(), known.max().date()) == (START, day(8))
    assert (history["tx_datetime"].min().date(), history["tx_datetime"].max().date()) == (START, day(12))
    truth = pl.concat(small.labels(day(number)) for number in range(9))
    assert_frame_equal(history.filter(pl.col("tx_fraud").is_not_null()).select(*LABELS), truth)


def test_what_becomes_known_later_does_not_change_the_inputs(lake, small):
    """A window ends a week before its transaction: it never holds a label that was not known on that day."""
    fill(lake, small, START, day(30))
    on_the_day = features(labelled_history(lake, day(18), day(20), as_of=day(20)), day(18), day(20))
    later = features(labelled_history(lake, day(18), day(20), as_of=day(30)), day(18), day(20))
    assert_frame_equal(on_the_day.drop("tx_fraud"), later.drop("tx_fraud"))
    assert on_the_day["tx_fraud"].is_null().all()
    assert later["tx_fraud"].is_not_null().all()


def test_a_day_after_the_day_of_the_run_is_refused(lake, small):
    fill(lake, small, START, day(3))
    with pytest.raises(BadInput, match="day 2018-04-03 is after 2018-04-02"):
        labelled_history(lake, START, day(2), as_of=day(1))


def test_a_gap_in_the_history_is_refused(lake, small):
    fill(lake, small, START, day(3))
    fill(lake, small, day(5), day(9))
    with pytest.raises(BadInput, match="no transactions/date=2018-04-05;"):
        labelled_history(lake, day(8), day(9), as_of=day(9))


def test_an_id_with_two_labels_is_refused(lake, small):
    fill(lake, small, START, day(9))
    lake.write_labels(day(8), lake.labels(day(7), START, START))
    with pytest.raises(BadInput, match="a transaction_id has two labels between 2018-04-01 and 2018-04-10"):
        labelled_history(lake, day(9), day(9), as_of=day(9))


def test_chunks_give_what_the_whole_gives(lake, small, monkeypatch):
    fill(lake, small, START, day(60))
    whole = features(labelled_history(lake, day(2), day(55), as_of=day(60)), day(2), day(55))
    monkeypatch.setattr(module, "CHUNK_DAYS", 20)
    chunks = list(features_by_chunk(lake, day(2), day(55), as_of=day(60)))
    assert [chunk["tx_datetime"].min().date() for chunk in chunks] == [day(2), day(22), day(42)]
    assert_frame_equal(pl.concat(chunks), whole, check_exact=True)


def test_chunks_read_each_partition_once_and_hold_no_more_than_a_chunk_and_its_history(lake, small, monkeypatch):
    fill(lake, small, START, day(99))
    read: list[date] = []
    ours = type(lake).transactions
    monkeypatch.setattr(
        type(lake), "transactions", lambda self, a, b: read.extend(days_between(a, b)) or ours(self, a, b)
    )
    held = []
    computed = features
    monkeypatch.setattr(
        module,
        "features",
        lambda history, a, b: held.append(history["tx_datetime"].dt.date().n_unique()) or computed(history, a, b),
    )
    assert sum(chunk.height for chunk in features_by_chunk(lake, START, day(99), as_of=day(99)))
    assert read == [day(number) for number in range(100)]
    assert max(held) == module.CHUNK_DAYS + HISTORY_DAYS


def test_inputs_of_published_days_equal_their_definition(real_data):
    """Fifty published transactions, counted by hand from the rows of their customer and terminal."""
    source = ParquetSource(real_data)
    first, last = date(2018, 5, 20), date(2018, 5, 22)
    days = [first + timedelta(days=n) for n in range(-HISTORY_DAYS, 3)]
    history = pl.concat(source.transactions(d).join(source.labels(d), on="transaction_id") for d in days)
    sample = features(history, first, last).sample(50, seed=1)
    cents = (pl.col("tx_amount") * 100).round().cast(pl.Int64)
    plain = history.select(
        "transaction_id", pl.col("tx_datetime").to_physical(), "customer_id", "terminal_id", cents, "tx_fraud"
    )
    for this in sample.iter_rows(named=True):
        of = (pl.col("customer_id") == this["customer_id"]) | (pl.col("terminal_id") == this["terminal_id"])
        rows = plain.filter(of).rows()
        (row,) = (r for r in rows if r[0] == this["transaction_id"])
        assert [this[name] for name in FEATURES] == pytest.approx(by_definition(rows, row), abs=1e-9)
