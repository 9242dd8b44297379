"""The contenders of `bench.attack`, each run in a process of its own that prints its figures as one JSON object."""

import json
import sys
import time
from typing import Any

import numpy as np
from kafka import KafkaProducer

from include.fraud.examples import ExerciseTransactions
from include.fraud.online import EXERCISE_IDS
from include.loadtest import answer
from include.loadtest.brakes import Brakes
from include.loadtest.latency import Latency
from include.loadtest.ledger import Ledger, Said
from include.loadtest.schedule import NANOSECONDS, Schedule, parse_stages
from include.loadtest.sender import Client, Sender, producer, undisturbed

TOPIC = "transactions-input"


class Nothing:
    """A producer that sends nothing: what is late with it is late because of this machine and Python alone."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    def produce(self, topic: str, value: bytes, key: bytes, headers: Any, on_delivery: Any) -> None:
        self._waiting.append(on_delivery)

    def poll(self, timeout: float) -> int:
        for on_delivery in self._waiting:
            on_delivery(None, None)
        self._waiting.clear()
        time.sleep(timeout)
        return 0

    def __len__(self) -> int:
        return len(self._waiting)


def nothing(bootstrap: str, stages: str) -> dict[str, Any]:
    """The sender itself, without Kafka."""
    return _sent(Nothing(), stages)


def ceiling(bootstrap: str, stages: str) -> dict[str, Any]:
    """The sender with Kafka, without anybody who watches the answers."""
    return _sent(producer(bootstrap), stages)


def _sent(client: Client, stages: str) -> dict[str, Any]:
    legs = parse_stages(stages)
    count = sum(leg.count for leg in legs)
    ledger = Ledger(EXERCISE_IDS, count)
    ledger.said[Said.BEAT_AT] = 2**62
    stop = Brakes(ledger, deadline=time.monotonic() + 3600, max_messages=count, max_failed=1)
    schedule, transactions = Schedule(legs), ExerciseTransactions()
    with undisturbed():
        sender = Sender(client, TOPIC, "bench", ledger, schedule, stop, transactions)
        sender.send_all(sender.now() + NANOSECONDS // 2)
        sender.drain(60)
    all_stages, _ = answer.stages(ledger, schedule.legs, sender.messages, sender.stopped_at)
    seconds = (ledger.ended.max() - ledger.sent[0]) / NANOSECONDS
    return {"stages": all_stages, "rate": sender.messages / seconds, "cpu_seconds": time.process_time()}


def send_and_wait(bootstrap: str, stages: str) -> dict[str, Any]:
    """What people write first: each message is sent and its acknowledgement waited for, then comes the next."""
    client, transactions = KafkaProducer(bootstrap_servers=bootstrap, acks="all"), ExerciseTransactions()
    client.send(TOPIC, b"{}").get()
    all_stages = []
    for leg in Schedule(parse_stages(stages)).run(time.time_ns() + NANOSECONDS // 2):
        late = []
        for number in range(leg.count):
            due = leg.due(number)
            while (ahead := due - time.time_ns()) > 0:
                time.sleep(ahead / NANOSECONDS)
            if time.time_ns() >= leg.ends:
                break
            late.append(time.time_ns() - due)
            key, value = transactions.message(number, EXERCISE_IDS + number, due // 1_000_000)
            client.send(TOPIC, value, key).get(timeout=60)
        figures = Latency(np.array(late, dtype=np.int64)).figures()
        all_stages.append({"rate_error": len(late) / leg.count - 1, "lateness_ms": figures})
    return {"stages": all_stages}


def kafka_python(bootstrap: str, stages: str) -> dict[str, Any]:
    """As fast as kafka-python goes, for the record."""
    client = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, batch_size=65_536)
    transactions, count = ExerciseTransactions(), parse_stages(stages)[0].count
    began = time.monotonic()
    for number in range(count):
        key, value = transactions.message(number, EXERCISE_IDS + number, 0)
        client.send(TOPIC, value, key)
    client.flush()
    return {"rate": count / (time.monotonic() - began)}


def main() -> None:
    """`<contender> <bootstrap> <stages>`"""
    who, bootstrap, stages = sys.argv[1:]
    json.dump(globals()[who](bootstrap, stages), sys.stdout)
