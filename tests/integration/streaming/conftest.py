"""A real broker that can be killed, topics of each test's own, scorers as real processes, a real model API."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.broker import Broker, broker
from include.code_version import ROOT
from include.settings import settings
from include.streaming import topics
from tests.integration.serving.conftest import (  # noqa: F401 - fixtures
    Replica,
    free_port,
    metric,
    packed,
    small_lake,
    start_replica,
    transaction,
    wait_for,
)
from tests.integration.streaming.fake_api import FakeApi

PATIENCE = 90  # the machine may have much else to do
GROUP = "scorer"


class Stream:
    """Three topics, and who writes and reads them."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.input, self.predictions, self.dead = (f"{name}-{what}" for what in ("input", "predictions", "dlq"))
        self.environment = {
            "MLOPS_KAFKA_BOOTSTRAP": broker.address,
            "MLOPS_TRANSACTIONS_TOPIC": self.input,
            "MLOPS_PREDICTIONS_TOPIC": self.predictions,
            "MLOPS_DEAD_LETTER_TOPIC": self.dead,
        }
        self.acked: list[int] = []
        self._producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 2, "log_level": 0,
                                   "enable.idempotence": True, "message.timeout.ms": 0})  # fmt: skip

    def create(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            settings.cache_clear()
            topics.main(topics.Args(result=None))
        settings.cache_clear()

    def send(self, value: bytes | None, key: bytes | None = None, headers: dict[str, bytes] | None = None,
             partition: int = -1) -> None:  # fmt: skip
        self._producer.produce(self.input, value, key, partition, headers=list((headers or {}).items()))

    def send_transactions(self, ids: range, customers: int = 50, pause: float = 0.0) -> None:
        for number in ids:
            body = transaction(transaction_id=number, customer_id=number % customers)
            self._producer.produce(
                self.input,
                json.dumps(body),
                str(number % customers),
                on_delivery=lambda error, _, number=number: self.acked.append(number) if error is None else None,
            )
            self._producer.poll(0)
            if pause:
                time.sleep(pause)

    def flush(self) -> None:
        assert self._producer.flush(PATIENCE) == 0

    def read(self, topic: str) -> list[Message]:
        """All messages of the topic there are now."""
        reader = Consumer({"bootstrap.servers": self.broker.address, "group.id": "test", "log_level": 0,
                           "enable.auto.commit": False, "auto.offset.reset": "earliest"})  # fmt: skip
        try:
            ends = {}
            for number in reader.list_topics(topic, timeout=30).topics[topic].partitions:
                first, end = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
                if end > first:
                    ends[number] = end
            reader.assign([TopicPartition(topic, number, 0) for number in ends])
            found: list[Message] = []
            deadline = time.monotonic() + PATIENCE
            while ends and time.monotonic() < deadline:
                for message in reader.consume(1000, 0.2):
                    if message.error() is None:
                        found.append(message)
                        if message.offset() + 1 >= ends.get(message.partition(), 0):
                            ends.pop(message.partition(), None)
            assert not ends
            return found
        finally:
            reader.close()

    def predicted(self) -> list[int]:
        """The transaction ids of all predictions, with those that came twice."""
        return [int(message.key()) for message in self.read(self.predictions)]

    def wait_until_predicted(self, number: int) -> list[int]:
        """All predictions, when there are so many different ones."""
        deadline = time.monotonic() + PATIENCE
        while len(set(found := self.predicted())) < number:
            assert time.monotonic() < deadline, f"{len(set(found))} of {number} predicted"
            time.sleep(0.2)
        return found

    def uncommitted(self) -> int:
        """Messages of the input that the group has not committed."""
        admin = AdminClient({"bootstrap.servers": self.broker.address, "log_level": 0})
        reader = Consumer({"bootstrap.servers": self.broker.address, "group.id": GROUP, "log_level": 0})
        try:
            mine = [TopicPartition(self.input, number)
                    for number in admin.list_topics(self.input, timeout=30).topics[self.input].partitions]  # fmt: skip
            return sum(
                reader.get_watermark_offsets(one, timeout=30)[1] - max(one.offset, 0)
                for one in reader.committed(mine, timeout=30)
            )
        finally:
            reader.close()


class Scorer:
    """A running scorer."""

    def __init__(self, environment: dict[str, str], log: Path, *flags: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "include.streaming.scorer", "--metrics-port", str(self.port), *flags],
            env=kept | {"PYTHONPATH": str(ROOT)} | environment, stderr=log.open("wb"), cwd=ROOT,
        )  # fmt: skip

    def wait_until_ready(self) -> "Scorer":
        wait_for(lambda: self.process.poll() is not None or self._is_ready(), "the scorer", PATIENCE)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", trust_env=False, timeout=10).is_success
        except httpx.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        return metric(httpx.get(f"{self.url}/metrics", trust_env=False, timeout=30).text, name, **labels)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Started once for all tests of the stream."""
    with broker(tmp_path_factory.mktemp("broker")) as one:
        yield one


@pytest.fixture
def stream(own_broker: Broker, request: pytest.FixtureRequest) -> Stream:
    """Topics that are the test's own."""
    stream = Stream(own_broker, re.sub("[^a-z0-9]+", "-", request.node.name)[:60])
    stream.create()
    return stream


@pytest.fixture
def score(stream: Stream, tmp_path: Path) -> Iterator[Callable[..., Scorer]]:
    """Start a scorer of the stream: `score(url of the API)`."""
    started: list[Scorer] = []

    def start(url: str, *flags: str, **environment: str) -> Scorer:
        log = tmp_path / f"scorer-{len(started)}.log"
        scorer = Scorer(stream.environment | {"MLOPS_MODEL_API_URL": url} | environment, log, *flags)
        started.append(scorer)
        return scorer

    yield start
    for scorer in started:
        scorer.kill()
        sys.stdout.write(scorer.log.read_text())  # shown when the test fails


@pytest.fixture
def fake_api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.close()


@pytest.fixture(scope="session")
def real_api(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:  # noqa: F811
    """One model API for all tests that leave it alone."""
    replica = start_replica(packed, tmp_path_factory.mktemp("api") / "api.log")
    yield replica
    replica.kill()


def in_background(work: Callable[..., Any], *arguments: Any, **more: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, kwargs=more)
    thread.start()
    return thread
