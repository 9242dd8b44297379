"""Serving's inputs are those of training, whatever order, repetition or batch the transactions come in."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.fraud import online
from include.fraud.features import features
from include.fraud.online import Transaction
from include.fraud.windows import FEATURES
from tests.unit.fraud.test_features import DAY, SPAN_DAYS, START, T0, day, events, frame


def transaction(row) -> Transaction:
    return Transaction(
        row[0], datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=row[1]), row[2], row[3], row[4] / 100
    )


def blob(rows) -> bytes:
    return np.array(rows, dtype="<i8").tobytes()


def offline(rows, asked) -> list:
    found = features(frame(rows), START, day(SPAN_DAYS))
    by_id = {row[0]: row[1:] for row in found.select("transaction_id", *FEATURES).iter_rows()}
    return [list(by_id[row[0]]) for row in asked]


@settings(max_examples=300)
@given(rows=events.filter(bool), data=st.data())
def test_a_batch_has_online_the_inputs_it_has_offline(rows, data):
    batch = data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=8))  # may hold one twice
    sent = {row[0] for row in batch}
    # Kept from before: all others, and some of what is sent again; in any order and with repetitions.
    kept = [row for row in rows if row[0] not in sent] + data.draw(st.lists(st.sampled_from(rows)))
    kept = data.draw(st.permutations(kept))
    customers = {r[2]: blob([(e[1], e[0], e[4]) for e in kept if e[2] == r[2]]) for r in batch}
    terminals = {r[3]: blob([(e[1], e[0], e[5] or 0) for e in rows if e[3] == r[3]]) for r in batch}
    found = online.inputs([transaction(row) for row in batch], customers, terminals)
    assert found.tolist() == offline(rows, batch)


def test_events_far_away_in_time_do_not_reach_a_window():
    row = (1, T0, 7, 8, 1250)
    far = [(0, 2, 100), (T0 + 10_000 * DAY, 3, 100), (-(2**60), 4, 5), (2**60, 5, 5)]
    found = online.inputs([transaction(row)], {7: blob(far)}, {8: blob(far)})
    assert found.tolist() == online.inputs([transaction(row)], {7: b""}, {8: b""}).tolist()
    assert found[0][3] == 1


def test_what_scoring_adds_is_what_the_windows_read():
    row = (5, T0 + 123, 7, 8, 1250)
    assert np.frombuffer(online.event(transaction(row)), "<i8").tolist() == [T0 + 123, 5, 1250]


@pytest.mark.parametrize(
    ("field", "value"),
    [("tx_amount", 1.005), ("tx_datetime", "1969-12-31T23:59:59Z"), ("tx_datetime", "2200-01-01T00:00:00Z")],
)
def test_rules_beyond_the_types(field, value):
    body = {
        "transaction_id": 1,
        "tx_datetime": "2018-08-08T00:00:00Z",
        "customer_id": 2,
        "terminal_id": 3,
        "tx_amount": 9.99,
    }
    assert online.check(msgspec.convert(body, Transaction)) is None
    broken = online.check(msgspec.convert(body | {field: value}, Transaction))
    assert broken
    assert broken[0] == field
