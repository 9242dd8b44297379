"""The scorer beside a loop of one `requests.post` a row, on one broker and one model API: `python -m bench.stream`.

Rate: the topic is full before either starts; what counts is the time between the first prediction and the last, so
neither's start. Every run has topics of its own, and every message must have its prediction. Open loop: transactions
due at 1500 a second; a latency is from when one was due to when its prediction was handed to Kafka, the sender's own
lateness included. The model and the requests are those of `bench.serving`; there is no Redis: histories come from the
version's snapshot, for both.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.broker import broker
from bench.report import Report
from bench.serving import Material, Served, _free_port, running
from include.code_version import ROOT
from include.fraud.online import EXERCISE_IDS

RUNS = 3
ROWS, PEER_ROWS = 20_000, 1_000
OPEN_RATE, OPEN_SECONDS = 1500, 30
GOAL_RATIO, GOAL_P99_MS = 20.0, 1000.0
CUSTOMERS = 5_000
SILENCE_SECONDS = 60.0


@dataclass
class Outcome:
    """What is in the topic of predictions: when each transaction's first one was handed to Kafka, and its due time."""

    at: dict[int, float] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def rate(self) -> float:
        """Predictions a second, from the first to the last."""
        return (len(self.at) - 1) / (max(self.at.values()) - min(self.at.values()))

    def latencies(self, first: int) -> list[float]:
        """From due to prediction, in ms, in order, of the transactions from that id on."""
        return sorted((self.at[one] - due) * 1000 for one, due in self.due.items() if one >= first)


class Bench:
    """A broker, an API, and transactions."""

    def __init__(self, broker: str, api: str, transactions: list[str], folder: Path) -> None:
        self.broker, self.api, self.folder = broker, api, folder
        self.transactions = [json.loads(one) for one in transactions]
        self.runs = 0
        self.first_id = EXERCISE_IDS + int(time.time() * 1000) * 1000

    def topics(self) -> dict[str, str]:
        """The settings of a run with new topics."""
        self.runs += 1
        names = ("TRANSACTIONS", "PREDICTIONS", "DEAD_LETTER")
        environment = {f"MLOPS_{name}_TOPIC": f"run-{self.runs}-{name.lower()}" for name in names}
        environment |= {"MLOPS_KAFKA_BOOTSTRAP": self.broker, "MLOPS_MODEL_API_URL": self.api}
        self._run(environment, "include.streaming.topics", wait=True)
        return environment

    @contextmanager
    def program(self, environment: dict[str, str], *words: str) -> Iterator[psutil.Process]:
        """`python -m WORDS` while the block runs."""
        process = self._run(environment, *words)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)

    def fill(self, topic: str, number: int, rate: float | None = None) -> list[float]:
        """Send so many transactions, each at its due time when there is a rate; how late each was, in ms."""
        producer = Producer(
            {"bootstrap.servers": self.broker, "enable.idempotence": True, "linger.ms": 2, "log_level": 0}
        )
        late = []
        began = time.time()
        for number_sent in range(number):
            due = began + number_sent / rate if rate else time.time()
            while (ahead := due - time.time()) > 0:
                producer.poll(0)
                time.sleep(min(ahead, 0.005))
            late.append((time.time() - due) * 1000)
            producer.produce(topic, *self._message(number_sent), headers=[("due", str(int(due * 1e9)))])
            producer.poll(0)
        assert producer.flush(60) == 0
        self.first_id += number
        return sorted(late)

    def outcome(self, topic: str, number: int) -> Outcome:
        """Read the topic until so many transactions are predicted; SystemExit when nothing more comes."""
        found = Outcome()
        reader = Consumer({"bootstrap.servers": self.broker, "group.id": "bench", "enable.auto.commit": False,
                           "log_level": 0})  # fmt: skip
        reader.assign([TopicPartition(topic, partition, 0) for partition in range(6)])
        heard = time.monotonic()
        while len(found.at) < number:
            messages = [one for one in reader.consume(1000, 0.2) if one.error() is None]
            for message in messages:
                heard = time.monotonic()
                key = int(message.key())
                found.duplicates += key in found.at
                found.at.setdefault(key, message.timestamp()[1] / 1000)
                for name, value in message.headers() or []:
                    if name == "due":
                        found.due[key] = int(value) / 1e9
            if time.monotonic() - heard > SILENCE_SECONDS:
                said = (self.folder / "programs.log").read_text()[-3000:]
                raise SystemExit(f"{number - len(found.at)} of {number} got no prediction in {topic}:\n{said}")
        reader.close()
        return found

    def _message(self, number: int) -> tuple[bytes, bytes]:
        customer = EXERCISE_IDS + number % CUSTOMERS
        transaction = self.transactions[number % len(self.transactions)] | {
            "transaction_id": self.first_id + number,
            "customer_id": customer,
        }
        return json.dumps(transaction).encode(), str(customer).encode()

    def _run(self, environment: dict[str, str], *words: str, wait: bool = False) -> "subprocess.Popen[bytes]":
        with (self.folder / "programs.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        if wait and process.wait() != 0:
            raise SystemExit((self.folder / "programs.log").read_text()[-3000:])
        return process


def main() -> int:
    """Measure one after the other, and compare."""
    with tempfile.TemporaryDirectory(prefix="bench-stream-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        material = Material(folder)
        command = [
            sys.executable,
            "-m",
            "include.serving.api",
            "--model-dir",
            str(material.package),
            "--port",
            "{port}",
        ]
        api = Served("model API", command, "/predict", "/ready", material.transactions, {"MLOPS_REDIS_URL": ""})
        core = min(os.sched_getaffinity(0))
        with broker(folder / "broker") as kafka, running(api, folder, core) as port:
            return measure(Bench(kafka.address, f"http://127.0.0.1:{port}", material.transactions, folder))


def measure(bench: Bench) -> int:
    """The figures."""
    report = Report("stream")
    ours, plain = [], []
    for _ in range(RUNS):
        plain.append(closed(bench, PEER_ROWS, "bench.stream_plain"))
        ours.append(closed(bench, ROWS, *scorer()))
        print(f"ours {ours[-1]:,.0f} rows/s, one post a row {plain[-1]:,.0f} rows/s", flush=True)
    ratio = report.row("ours", "rate", "rows/s", ours) / report.row("one requests.post a row", "rate", "rows/s", plain)
    report.ratio("ours / one requests.post a row", ratio)
    report.goal("ours / one requests.post a row, rate", GOAL_RATIO, round(ratio, 1), ratio >= GOAL_RATIO)
    p99 = open_loop(bench, report)
    report.goal(f"end-to-end p99 at {OPEN_RATE}/s, ms", GOAL_P99_MS, round(p99), p99 < GOAL_P99_MS)
    return report.finish()


def closed(bench: Bench, rows: int, *program: str) -> float:
    """Rows a second out of a full topic."""
    environment = bench.topics()
    names = environment["MLOPS_TRANSACTIONS_TOPIC"], environment["MLOPS_PREDICTIONS_TOPIC"]
    bench.fill(names[0], rows)
    words = [*program, *names] if program[0] == "bench.stream_plain" else list(program)
    with bench.program(environment, *words):
        return bench.outcome(names[1], rows).rate


def open_loop(bench: Bench, report: Report) -> float:
    """The p99 from due to prediction at OPEN_RATE."""
    environment = bench.topics()
    rows = OPEN_RATE * OPEN_SECONDS
    with bench.program(environment, *scorer()) as process:
        bench.fill(environment["MLOPS_TRANSACTIONS_TOPIC"], 1_000)  # until it runs
        bench.outcome(environment["MLOPS_PREDICTIONS_TOPIC"], 1_000)
        first = bench.first_id
        before = process.cpu_times()
        late = bench.fill(environment["MLOPS_TRANSACTIONS_TOPIC"], rows, OPEN_RATE)
        outcome = bench.outcome(environment["MLOPS_PREDICTIONS_TOPIC"], rows + 1_000)
        after = process.cpu_times()
    core = (after.user + after.system - before.user - before.system) / OPEN_SECONDS
    latencies = outcome.latencies(first)
    for who, values in (("the sender's lateness", late), (f"ours at {OPEN_RATE}/s, due to prediction", latencies)):
        for what, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            report.row(who, what, "ms", [values[int(share * (len(values) - 1))]])
    report.row(f"ours at {OPEN_RATE}/s", "duplicates", "rows", [outcome.duplicates])
    report.row(f"ours at {OPEN_RATE}/s", "CPU", "% of a core", [core * 100])
    return latencies[int(0.99 * (len(latencies) - 1))]


def scorer() -> list[str]:
    """Ours."""
    return ["include.streaming.scorer", "--metrics-port", str(_free_port())]


if __name__ == "__main__":
    sys.exit(main())
