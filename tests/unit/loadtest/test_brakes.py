"""Everything that must stop an attack does, and says that it was that."""

import os
import signal
import time

import pytest

from include.command import BadInput
from include.loadtest import attack, brakes
from include.loadtest.brakes import Brakes, ErrorBudget
from include.loadtest.ledger import Ledger, Said
from include.settings import settings


def new_brakes(ledger=None, **given):
    ledger = ledger or Ledger(0, 10)
    ledger.said[Said.BEAT_AT] = time.time_ns()
    settings = {"deadline": time.monotonic() + 60, "max_messages": 10, "max_failed": 0.01}
    return Brakes(ledger, **(settings | given)), ledger


def test_nothing_stops_what_goes_well():
    assert new_brakes()[0].pulled() == ""


def test_deadline():
    assert new_brakes(deadline=time.monotonic() - 1)[0].pulled() == brakes.DEADLINE


def test_stop_file(tmp_path):
    file = tmp_path / "stop"
    stop, _ = new_brakes(stop_file=file)
    assert stop.pulled() == ""
    file.touch()
    time.sleep(brakes.LOOK_EVERY)
    assert stop.pulled() == brakes.STOP_FILE


def test_the_watch_says_that_it_is_over():
    stop, ledger = new_brakes()
    ledger.said[Said.OVER] = 1
    assert stop.pulled() == brakes.STOP_WHEN


def test_an_observer_that_is_gone():
    stop, ledger = new_brakes()
    ledger.said[Said.BEAT_AT] = time.time_ns() - 31 * 10**9
    assert stop.pulled() == brakes.OBSERVER_DIED


def test_signal():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop, _ = new_brakes()
    try:
        stop.take_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.pulled() == brakes.SIGNAL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(("kind", "heard_ago", "reason"), [
    (1, 10, ""),
    (1, 70, brakes.PROMETHEUS_SILENT),
    (0, 70, ""),  # the stages need no Prometheus
])  # fmt: skip
def test_a_surge_is_not_blind(kind, heard_ago, reason):
    stop, ledger = new_brakes(silent_seconds=60)
    ledger.said[Said.STAGE_KIND] = kind
    ledger.said[Said.ANSWERED_AT] = time.time_ns() - heard_ago * 10**9
    assert stop.pulled() == reason


def test_the_silence_counts_from_the_begin_of_the_surge():
    stop, ledger = new_brakes(silent_seconds=0.2)
    assert stop.pulled() == ""
    ledger.said[Said.STAGE_KIND] = 1
    time.sleep(0.12)
    assert stop.pulled() == ""
    time.sleep(0.15)
    assert stop.pulled() == brakes.PROMETHEUS_SILENT


@pytest.mark.parametrize(("acked", "failed", "exceeded"), [
    (990, 10, False),  # exactly the budget
    (989, 11, True),
    (0, 199, False),  # too few to judge
    (0, 200, True),
])  # fmt: skip
def test_error_budget(acked, failed, exceeded):
    budget = ErrorBudget(0.01)
    assert not budget.exceeded(0.0, 5_000, 0)
    assert budget.exceeded(1.0, 5_000 + acked, failed) is exceeded


def test_old_failures_are_forgiven_and_many_successes_hide_no_new_ones():
    budget = ErrorBudget(0.01)
    assert not budget.exceeded(0.0, 0, 0)
    assert budget.exceeded(1.0, 500, 500)
    for second in range(2, 14):
        last = budget.exceeded(float(second), 500 + 1_000 * second, 500)
    assert not last
    budget = ErrorBudget(0.01)
    for second in range(20):
        assert not budget.exceeded(float(second), 100_000 * second, 0)
    assert budget.exceeded(31.0, 1_900_000, 300)


@pytest.mark.parametrize(("asked", "listed", "refused"), [
    ("broker:9092", "", True),
    ("broker:9092", "other:9092", True),
    ("broker:9092,real:9092", "broker:9092", True),
    ("broker:9092", "broker:90921", True),
    ("broker:9092", "other:9092, broker:9092", False),
])  # fmt: skip
def test_only_listed_brokers(monkeypatch, asked, listed, refused):
    monkeypatch.setenv("MLOPS_KAFKA_BOOTSTRAP", asked)
    monkeypatch.setenv("MLOPS_ATTACK_BROKERS", listed)
    settings.cache_clear()
    try:
        if refused:
            with pytest.raises(BadInput, match="MLOPS_ATTACK_BROKERS"):
                attack.allowed_broker()
        else:
            assert attack.allowed_broker() == "broker:9092"
    finally:
        settings.cache_clear()
