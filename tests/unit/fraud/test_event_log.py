"""Histories from the lake, packed as serving reads them."""

import shutil
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from include.command import BadInput
from include.fraud import event_log
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.schema import LABELS, TRANSACTIONS
from include.settings import settings
from tests.unit.fraud.conftest import START, day


def frame(*rows) -> pl.DataFrame:
    schema = TRANSACTIONS | {"tx_fraud": LABELS["tx_fraud"]}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def unpacked(history) -> dict:
    return {entity: np.frombuffer(events, "<i8").reshape(-1, 3).tolist() for entity, events in history}


@pytest.fixture
def settings_of(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_LAKE_URI", str(tmp_path / "lake"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_events_are_grouped_in_order_of_time_with_amounts_and_known_frauds():
    noon = datetime(2018, 4, 1, 12, tzinfo=UTC)
    ms = int(noon.timestamp()) * 1000
    rows = frame(
        (3, noon, 7, 100, 1.5, None),
        (2, noon.replace(hour=13), 7, 100, 20.0, 1),
        (1, noon, 8, 100, 0.01, 0),
    )
    packed = event_log.packed(rows)
    assert unpacked(packed["customer"]) == {7: [[ms, 3, 150], [ms + 3_600_000, 2, 2000]], 8: [[ms, 1, 1]]}
    assert unpacked(packed["terminal"]) == {100: [[ms, 1, 0], [ms, 3, 0], [ms + 3_600_000, 2, 1]]}


def test_nobody_has_no_history():
    assert event_log.packed(frame()) == {"customer": [], "terminal": []}


def test_labels_of_the_last_week_are_not_known_and_a_missing_day_is_left_out(lake, small, settings_of):
    fill(lake, small, START, day(20))
    whole = event_log.histories(day(20), day(20))
    frauds = np.concatenate([np.frombuffer(events, "<i8").reshape(-1, 3) for _, events in whole["terminal"]])
    known = frauds[frauds[:, 2] == 1][:, 0]
    assert len(known)
    assert known.max() < event_log.end_of(day(13))
    shutil.rmtree(f"{lake.uri}/transactions/date={day(10)}")
    events = event_log.histories(day(20), day(20))
    gone = small.transactions(day(10)).height
    count = lambda of: sum(len(packed) for _, packed in of["customer"]) // 24  # noqa: E731
    assert count(whole) - count(events) == gone


def test_an_empty_lake_says_what_to_do(settings_of):
    with pytest.raises(BadInput, match="run ingest_transactions first"):
        event_log.newest_day()
    with pytest.raises(BadInput, match="run ingest_transactions first"):
        event_log.histories(date(2018, 4, 1), date(2018, 4, 1))


def test_only_the_days_that_a_window_reaches_are_read(lake, small, settings_of):
    fill(Lake(lake.uri), small, START, day(50))
    found = event_log.histories(day(50), day(50))["customer"]
    oldest = min(np.frombuffer(events, "<i8").reshape(-1, 3)[:, 0].min() for _, events in found)
    assert oldest >= event_log.end_of(day(12))
    assert oldest < event_log.end_of(day(13))
