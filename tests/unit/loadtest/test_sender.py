"""The open loop, with a client that is no Kafka: what is due is sent, what is late is shown."""

import json
import time

import pytest

from include.fraud.examples import ExerciseTransactions
from include.fraud.online import EXERCISE_IDS, Transaction, check
from include.loadtest import answer, brakes
from include.loadtest.brakes import Brakes
from include.loadtest.ledger import Ledger, Said
from include.loadtest.schedule import NANOSECONDS, Schedule, parse_stages
from include.loadtest.sender import Sender

TRANSACTIONS = ExerciseTransactions()
FIRST_ID = EXERCISE_IDS + 5_000


class Client:
    """Acknowledges at the next poll; `refuse` says which calls the queue is full at."""

    def __init__(self, slow=0.0, full=(), error=None):
        self.slow, self.full, self.error = slow, set(full), error
        self.calls, self.sent, self.waiting = 0, [], []

    def produce(self, topic, value, key, headers, on_delivery):
        self.calls += 1
        if self.calls in self.full:
            raise BufferError
        time.sleep(self.slow)
        self.sent.append((topic, key, value, dict(headers)))
        self.waiting.append(on_delivery)

    def poll(self, timeout):
        for on_delivery in self.waiting:
            on_delivery(self.error, None)
        self.waiting.clear()
        time.sleep(timeout)
        return 0

    def __len__(self):
        return len(self.waiting)


class Failure:
    def name(self):
        return "_MSG_TIMED_OUT"


def send(client, stages, **given):
    ledger = Ledger(FIRST_ID, 10_000)
    ledger.said[Said.BEAT_AT] = 2**62
    given = {"deadline": time.monotonic() + 60, "max_messages": 10_000, "max_failed": 1.0} | given
    schedule = Schedule(parse_stages(stages))
    sender = Sender(client, "topic", "drill-1", ledger, schedule, Brakes(ledger, **given), TRANSACTIONS)
    reason = sender.send_all(sender.now() + NANOSECONDS // 20)
    sender.drain(1)
    stages, _ = answer.stages(ledger, schedule.legs, sender.messages, sender.stopped_at)
    return reason, stages, answer.totals(ledger, stages, sender.messages), sender, ledger


def test_every_message_is_sent_when_it_is_due_and_carries_its_marks():
    client = Client()
    reason, stages, totals, _, ledger = send(client, "100x0.3,300x0.3")
    assert reason == brakes.STAGES_DONE
    assert [stage["sent"] for stage in stages] == [30, 90]
    assert totals["acked"] == 120
    assert (ledger.sent[:120] >= ledger.due[:120]).all()
    for number, (_, key, value, headers) in enumerate(client.sent):
        transaction = json.loads(value)
        assert transaction["transaction_id"] == FIRST_ID + number
        assert key == str(transaction["customer_id"]).encode()
        assert headers == {"exercise": b"drill-1", "due": str(ledger.due[number]).encode()}


def test_a_throttled_sender_is_off_its_rate_and_says_so():
    _, stages, totals, _, _ = send(Client(slow=0.01), "50x0.5,400x0.5")
    assert not stages[0]["off_rate"]
    assert stages[1]["off_rate"]
    assert stages[1]["rate_error"] < -0.5
    assert stages[1]["lateness_ms"]["max"] > 500
    assert totals["sent"] == totals["due"] == 225  # late, and none left out


@pytest.mark.parametrize(("sent_late", "off"), [(10, False), (11, True)])
def test_off_rate_begins_above_one_percent(sent_late, off):
    ledger, schedule = Ledger(FIRST_ID, 1_000), Schedule(parse_stages("1000x1"))
    (leg,) = schedule.run(0)
    ledger.due[:] = [leg.due(nth) for nth in range(1_000)]
    ledger.sent[:] = ledger.due
    ledger.sent[1_000 - sent_late :] = leg.ends
    (stage,), _ = answer.stages(ledger, schedule.legs, 1_000, leg.ends)
    assert stage["off_rate"] is off


def test_a_full_queue_makes_messages_late_but_none_is_lost():
    client = Client(full=range(5, 15))
    _, _, totals, _, ledger = send(client, "100x0.3")
    assert totals["sent"] == totals["acked"] == 30
    assert ledger.said[Said.QUEUE_FULL] == 10


def test_what_the_broker_does_not_take_has_failed():
    _, _, totals, sender, _ = send(Client(error=Failure()), "100x0.2")
    assert (totals["acked"], totals["failed"], totals["unknown"]) == (0, 20, 0)
    assert sender.failures == {"_MSG_TIMED_OUT": 20}


def test_what_is_never_answered_is_unknown():
    client = Client()
    client.poll = lambda timeout: time.sleep(timeout)
    _, _, totals, _, _ = send(client, "100x0.2")
    assert (totals["acked"], totals["failed"], totals["unknown"]) == (0, 0, 20)


def test_the_most_messages_are_exact():
    reason, _, totals, _, _ = send(Client(), "1000x5", max_messages=37)
    assert (reason, totals["sent"]) == (brakes.MAX_MESSAGES, 37)


def test_a_stop_ends_the_stage_at_its_rate():
    reason, (stage,), totals, _, _ = send(Client(), "100x30", deadline=time.monotonic() + 0.5)
    assert reason == brakes.DEADLINE
    assert stage["ended"] - stage["began"] < 1
    assert abs(totals["sent"] - totals["due"]) <= 2


def test_exercise_transactions_are_good_ones_of_nobody():
    import msgspec

    seen = set()
    for number in range(len(TRANSACTIONS)):
        key, value = TRANSACTIONS.message(number, FIRST_ID + number, 1_750_000_000_000 + number)
        one = msgspec.json.decode(value, type=Transaction)
        assert check(one) is None
        assert min(one.transaction_id, one.customer_id, one.terminal_id) >= EXERCISE_IDS
        assert one.tx_datetime.timestamp() == pytest.approx(1_750_000_000 + number / 1000)
        seen.add(key)
    assert len(seen) > 3_000


def test_capacity_is_the_highest_rate_that_was_carried():
    def stage(kind, rate, off, p99):
        return {"kind": kind, "rate": rate, "off_rate": off, "end_to_end_ms": {"p99": p99}}

    ran = [stage("stage", 50, False, 10), stage("surge", 75, False, 4_999), stage("surge", 100, False, 5_001)]
    assert answer.capacity(ran, cap=101) is None
    assert answer.capacity(ran, cap=100)["rate"] == 75
    assert answer.capacity([stage("surge", 100, True, 10)], cap=100)["rate"] is None
    assert answer.capacity([stage("surge", 100, False, None)], cap=100)["rate"] is None
