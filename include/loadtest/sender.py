"""Sends each message when it is due and waits for nothing: an open loop.

The schedule alone decides when a message is due. A slow broker, a full queue or a slow machine make messages late,
never fewer, and the lateness (send call minus due time) is recorded. One process is enough: librdkafka batches and
waits for the broker in threads of its own, outside Python's lock (bench/attack.py has the figures).
"""

import contextlib
import gc
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from confluent_kafka import KafkaError, Producer

from include.fraud.examples import ExerciseTransactions
from include.loadtest import brakes
from include.loadtest.brakes import Brakes
from include.loadtest.ledger import Ledger, Said
from include.loadtest.schedule import NANOSECONDS, Schedule

log = logging.getLogger("attack")

SLICE = 0.010  # seconds; the longest sleep
SHORT = 2_000_000  # ns; below that a sleep is more exact than librdkafka's wait, which counts in milliseconds
SERVE_EVERY = 5_000_000  # ns between looks at acknowledgements and brakes while messages are sent without a pause
DELIVERY_SECONDS = 60.0  # after that a message that the broker did not acknowledge has failed


class Client(Protocol):
    """What the sender needs of a producer."""

    @property
    def produce(self) -> Callable[..., None]: ...

    def poll(self, timeout: float) -> int: ...

    def __len__(self) -> int: ...


def producer(bootstrap: str, delivery_seconds: float = DELIVERY_SECONDS) -> Producer:
    """A producer that loses nothing it acknowledged, and gives a message up after `delivery_seconds`."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "message.timeout.ms": round(delivery_seconds * 1000),
            "queue.buffering.max.messages": 200_000,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )


class Sender:
    """Sends what the schedule says until it ends or a brake is pulled."""

    def __init__(
        self, client: Client, topic: str, run: str, ledger: Ledger, schedule: Schedule, stop: Brakes,
        transactions: ExerciseTransactions,
    ) -> None:  # fmt: skip
        self.failures: Counter[str] = Counter()
        self.messages = 0  # how many were due and handed over
        self.stopped_at = 0
        self._client, self._topic, self._ledger, self._schedule, self._brakes = client, topic, ledger, schedule, stop
        self._transactions = transactions
        self._exercise = run.encode()
        self._acked = self._failed = self._full = 0
        # A memoryview stores one number in a third of the time that an array takes.
        self._due, self._sent, self._ended = (column.data for column in (ledger.due, ledger.sent, ledger.ended))
        self._said = ledger.said.data
        self._to_unix = time.time_ns() - time.monotonic_ns()  # a step of the clock does not bend the schedule

    def now(self) -> int:
        """Ns since 1970 by a clock that runs evenly."""
        return time.monotonic_ns() + self._to_unix

    def send_all(self, begin: int) -> str:
        """Follow the schedule from `begin` (ns since 1970); why it stopped."""
        reason = ""
        for leg in self._schedule.run(begin):
            self._said[Said.STAGE_KIND] = int(leg.kind == "surge")
            self._said[Said.STAGE_RATE] = round(leg.rate * 1000)
            self._said[Said.STAGE_END_RATE] = round(leg.end_rate * 1000)
            reason = self._send_leg(leg.first, leg.count, leg.due)
            if reason:
                break
        self.stopped_at = self.now() if reason else self._schedule.legs[-1].ends
        return reason or brakes.STAGES_DONE

    def drain(self, seconds: float, patient: Callable[[], bool] = lambda: True) -> None:
        """Wait for what is still on its way to the broker, for so long at the most and while `patient`."""
        until = time.monotonic() + seconds
        while len(self._client) and time.monotonic() < until and patient():
            self._client.poll(SLICE)
            self._tell()
        self._client.poll(0)
        self._tell()

    def _send_leg(self, first: int, count: int, due_of: Callable[[int], int]) -> str:
        served = 0
        while (number := self.messages) < first + count:
            if number >= self._brakes.max_messages:
                return brakes.MAX_MESSAGES
            due = due_of(number - first)
            while (ahead := due - (now := self.now())) > 0:
                if reason := self._serve():
                    return reason
                served = now
                self._sleep(ahead)
            if now - served > SERVE_EVERY:
                if reason := self._serve():
                    return reason
                served = now
            if self._send(number, due, now):
                self.messages += 1
            else:
                self._client.poll(SLICE)  # the queue is full; the message stays due and gets later
        return ""

    def _send(self, number: int, due: int, now: int) -> bool:
        ledger = self._ledger
        key, value = self._transactions.message(number, ledger.first_id + number, due // 1_000_000)
        self._due[number] = due
        try:
            self._client.produce(
                self._topic, value=value, key=key, headers=[("exercise", self._exercise), ("due", b"%d" % due)],
                on_delivery=partial(self._delivered, number),
            )  # fmt: skip
        except BufferError:
            self._full += 1
            return False
        self._sent[number] = now
        return True

    def _delivered(self, number: int, error: KafkaError | None, message: object) -> None:
        if error is None:
            self._ended[number] = self.now()
            self._acked += 1
        else:
            self._ended[number] = -self.now()
            self._failed += 1
            self.failures[error.name()] += 1

    def _serve(self) -> str:
        self._client.poll(0)
        self._tell()
        return self._brakes.pulled()

    def _tell(self) -> None:
        said = self._said
        said[Said.SENT], said[Said.ACKED], said[Said.FAILED] = self.messages, self._acked, self._failed
        said[Said.QUEUE_FULL] = self._full

    def _sleep(self, ahead: int) -> None:
        if ahead > SHORT:
            # Ends early for acknowledgements, so that these are seen when they come.
            self._client.poll(min(ahead / NANOSECONDS - 0.001, SLICE))
        else:
            time.sleep(ahead / NANOSECONDS)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """This process sends on time: no garbage collector, and first at the processor where the system permits that.

    What exists already is taken out of the collector's sight, and what a message makes is freed as it is let go of: no
    cycle grows while messages are sent. Threads that the client starts later inherit the place at the processor.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
