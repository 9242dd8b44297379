"""The scorer: `python -m include.streaming.scorer [--metrics-port 8010]`.

Reads transactions, asks the model API, and writes what it answers; what cannot be scored is written to the dead letters
as it came. An offset is committed when Kafka has acknowledged the outcome of its message and of all before it, so after
any crash something may be written twice and nothing is missing. An API or a broker that is away is waited for.

SIGTERM: nothing more is read, what was read gets its outcome (for at most --drain-seconds), and all is committed.
Exit codes: 0 stopped as asked, 1 the port is taken or Kafka refuses for good, 2 a setting is wrong or a topic missing.
"""

import argparse
import asyncio
import logging
import signal
import sys
import time
from typing import cast

import uvloop
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaException, Message

from include.command import BAD_INPUT, DONE, FAILED, BadInput
from include.settings import settings
from include.streaming import messages, metrics
from include.streaming.connection import Address
from include.streaming.kafka_settings import check_kafka_settings
from include.streaming.lanes import Job, Lanes
from include.streaming.messages import Answer, DeadLetter
from include.streaming.model_api import Health, Row
from include.streaming.offsets import Progress
from include.streaming.partitions import Partitions
from include.streaming.probes import State, serve_probes
from include.streaming.publisher import Publisher

log = logging.getLogger(__name__)

GROUP = "scorer"
MOST_IN_FLIGHT = 5_000  # messages without an outcome; some seconds of work, some megabytes
POLL_SECONDS = 0.002
IDLE_SECONDS = 0.005
COMMIT_SECONDS = 0.5
LAG_SECONDS = 1.0
STUCK_SECONDS = 30.0
TOPICS_SECONDS = 2.0


class Stopped(Exception):
    """It cannot go on; says why."""


class Scorer:
    """From messages to outcomes."""

    def __init__(self, lanes: int, batch: int, drain_seconds: float) -> None:
        self._topics = settings().transactions_topic, settings().predictions_topic, settings().dead_letter_topic
        check_kafka_settings()
        self._drain_seconds = drain_seconds
        self._in_flight = 0
        self._stopping = asyncio.Event()
        self._failure: str | None = None
        self._beat = time.monotonic()
        self._health = Health()
        self._lanes = Lanes(Address.of(settings().model_api_url), self._health, lanes, batch, self._fail)
        self._publisher = Publisher(settings().kafka_bootstrap, self._fail)
        self._partitions = Partitions(settings().kafka_bootstrap, self._topics[0], GROUP)
        metrics.API_UP.set(0)

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. Raises BadInput and Stopped."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._wait_for_topics()
            self._partitions.join()
            tasks.append(asyncio.create_task(self._commit_now_and_then()))
            tasks.append(asyncio.create_task(self._measure_now_and_then()))
            while not self._stopping.is_set():
                read = self._step(MOST_IN_FLIGHT - self._in_flight)
                await asyncio.sleep(POLL_SECONDS if read or self._in_flight else IDLE_SECONDS)
            await self._drain()
        except KafkaException as error:
            raise Stopped(str(error)) from None
        finally:
            for task in tasks:
                task.cancel()
            self._lanes.close()
            self._partitions.close()

    def health(self) -> State:
        """Whether it moves."""
        idle = time.monotonic() - self._beat
        return idle < STUCK_SECONDS, {"status": "alive" if idle < STUCK_SECONDS else f"stuck for {idle:.0f} s"}

    def ready(self) -> State:
        """Whether it takes part. An API that is away is waited for, which is part of it."""
        status = "draining" if self._stopping.is_set() else "ready" if self._partitions.joined else "joining"
        api = {True: "up", False: "away", None: "not asked yet"}[self._health.up]
        return status == "ready", {"status": status, "partitions": len(self._partitions), "api": api}

    def _step(self, room: int) -> int:
        """Read and hand on, and see to what Kafka has acknowledged."""
        self._beat = time.monotonic()
        self._publisher.poll()
        if self._failure:
            raise Stopped(self._failure)
        found = self._partitions.read(room)
        for message, progress in found:
            self._take(message, progress)
        if found:
            metrics.CONSUMED.inc(len(found))
        metrics.IN_FLIGHT.set(self._in_flight)
        return len(found)

    def _take(self, message: Message, progress: Progress) -> None:
        self._in_flight += 1
        value = message.value()
        transaction = messages.read(value)
        if isinstance(transaction, DeadLetter) or value is None:
            assert isinstance(transaction, DeadLetter)
            self._bury(message, progress, transaction)
            return

        def done(outcome: Answer | DeadLetter | None) -> None:
            if outcome is None or not progress.owned:
                self._in_flight -= 1
            elif isinstance(outcome, DeadLetter):
                self._bury(message, progress, outcome)
            else:
                key, told = messages.prediction(transaction, outcome)
                self._publisher.publish(self._topics[1], key, told, _headers(message), scored)

        def scored() -> None:
            metrics.SCORED.inc()
            metrics.END_TO_END.observe(max(time.time() - _due(message), 0))
            self._finish(message, progress)

        self._lanes.put(Job(Row(transaction, value), lambda: progress.owned, done))

    def _bury(self, message: Message, progress: Progress, dead: DeadLetter) -> None:
        def buried() -> None:
            metrics.DEAD_LETTERED.labels(dead.reason).inc()
            self._finish(message, progress)

        headers = [*_headers(message), messages.error_header(dead)]
        self._publisher.publish(self._topics[2], message.key(), message.value(), headers, buried)

    def _finish(self, message: Message, progress: Progress) -> None:
        progress.finish(message.offset() or 0)
        self._in_flight -= 1

    def _fail(self, why: object) -> None:
        self._failure = repr(why)

    async def _wait_for_topics(self) -> None:
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            missing = await self._partitions.missing(self._topics)
            if missing:
                raise BadInput(
                    f"{settings().kafka_bootstrap} has no topic {', '.join(missing)}: the scorer reads and writes "
                    "topics that exist; create them with `python -m include.streaming.topics`"
                )
            if missing is not None:
                return
            await asyncio.sleep(TOPICS_SECONDS)

    async def _drain(self) -> None:
        log.info("stopping: %d messages still need their outcome", self._in_flight)
        deadline = time.monotonic() + self._drain_seconds
        while self._in_flight and time.monotonic() < deadline:
            self._step(room=0)
            await asyncio.sleep(POLL_SECONDS)
        if self._in_flight:
            log.warning(
                "%d messages have no outcome yet; they are not committed and will be read again", self._in_flight
            )

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            self._partitions.commit()

    async def _measure_now_and_then(self) -> None:
        while True:
            await self._partitions.measure_lag()
            await asyncio.sleep(LAG_SECONDS)


def _headers(message: Message) -> list[messages.Header]:
    own = messages.source(message.topic() or "", message.partition() or 0, message.offset() or 0)
    return [*_own_headers(message), own]


def _own_headers(message: Message) -> list[messages.Header]:
    return cast(list[messages.Header], message.headers() or [])  # read, they are bytes


def _due(message: Message) -> float:
    """When the transaction was due, unix seconds: its header says so, else when it was sent."""
    for name, value in _own_headers(message):
        if name == "due" and value and value.isdigit():
            return int(value) / 1e9
    kind, milliseconds = message.timestamp()
    return time.time() if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000


async def serve(asked: argparse.Namespace) -> int:
    """Run one scorer until SIGTERM or SIGINT."""
    try:
        scorer = Scorer(asked.lanes, asked.batch, asked.drain_seconds)
    except BadInput as error:
        log.error("%s", error)
        return BAD_INPUT
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, scorer.stop)
    try:
        probes = serve_probes(asked.metrics_host, asked.metrics_port, scorer.health, scorer.ready)
    except OSError as error:
        log.error("cannot listen on %s:%d: %s", asked.metrics_host, asked.metrics_port, error)
        return FAILED
    try:
        await scorer.run()
    except BadInput as error:
        log.error("%s", error)
        return BAD_INPUT
    except Stopped as error:
        log.error("cannot go on: %s; what has no outcome will be read again", error)
        return FAILED
    finally:
        probes.shutdown()
    log.info("stopped")
    return DONE


def main() -> int:
    """Exit code of the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return uvloop.run(serve(_arguments()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address of /metrics, /health and /ready")
    parser.add_argument("--metrics-port", type=int, default=8010)
    parser.add_argument("--lanes", type=_positive, default=16, help="requests at once")
    parser.add_argument("--batch", type=_positive, default=64, help="most transactions in one request")
    parser.add_argument("--drain-seconds", type=float, default=10.0, help="how long stopping may take")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 1000")
    return number


if __name__ == "__main__":
    sys.exit(main())
