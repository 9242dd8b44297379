"""Finds out what the scorer made of each message: a prediction, a dead letter, or nothing yet."""

import re

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from include.command import BadInput
from include.loadtest.ledger import Ledger

LOOK_UP_SECONDS = 15.0
_ID = re.compile(rb'"transaction_id"\s*:\s*(\d{1,19})')


class Matcher:
    """Reads both answer topics from where they ended when it began, and writes into the ledger.

    Only messages with this run's header count, and only ids of this run: what real clients and other attacks put there
    is passed over. It joins no consumer group and commits nothing.
    """

    def __init__(self, bootstrap: str, run: str, ledger: Ledger) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"attack-{run}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._bootstrap, self._run, self._ledger = bootstrap, run.encode(), ledger
        self._dead_letters = ""
        self.predicted = self.dead_lettered = self.duplicates = 0
        self.end_to_end: list[float] = []  # seconds, of those matched since somebody took the list

    def begin(self, inputs: str, predictions: str, dead_letters: str) -> None:
        """Stand at the end of both answer topics. Raises BadInput when a topic is missing, else ConnectionError."""
        self._dead_letters = dead_letters
        try:
            self._partitions(inputs)
            ends = [self._end(place) for topic in (predictions, dead_letters) for place in self._partitions(topic)]
            self._consumer.assign(ends)
        except KafkaException as error:
            raise ConnectionError(f"the broker {self._bootstrap} does not answer: {error.args[0].str()}") from error

    def _partitions(self, topic: str) -> list[TopicPartition]:
        known = self._consumer.list_topics(topic, timeout=LOOK_UP_SECONDS).topics[topic]
        if known.error or not known.partitions:
            raise BadInput(
                f"topic {topic} is not on {self._bootstrap}; an attack needs it: make the topics with "
                "`python -m include.streaming.topics`"
            )
        return [TopicPartition(topic, partition) for partition in known.partitions]

    def _end(self, place: TopicPartition) -> TopicPartition:
        _, offset = self._consumer.get_watermark_offsets(place, LOOK_UP_SECONDS)
        return TopicPartition(place.topic, place.partition, offset)

    def match(self, seconds: float) -> None:
        """Take in what has come, waiting at most so long for the first message."""
        for message in self._consumer.consume(2_000, seconds):
            if message.error() is None:
                self._take(message)

    def _take(self, message: Message) -> None:
        headers = message.headers() or ()
        if ("exercise", self._run) not in headers:
            return
        dead = message.topic() == self._dead_letters
        number = _id(message, dead) - self._ledger.first_id
        if not 0 <= number < self._ledger.room:
            return
        answered_ms = message.timestamp()[1]
        if self._ledger.answered[number]:
            self._ledger.again[number] += self._ledger.again[number] < 255
            self.duplicates += 1
            return
        self._ledger.answered[number] = -answered_ms if dead else answered_ms
        if dead:
            self.dead_lettered += 1
        else:
            self.predicted += 1
            self.end_to_end.append(answered_ms / 1000 - self._ledger.due[number] / 1e9)


def _id(message: Message, dead: bool) -> int:
    """A prediction's key is the transaction's id; a dead letter is the input as it was, keyed by customer."""
    if dead:
        found = _ID.search(message.value() or b"")
        return int(found[1]) if found else -1
    key = message.key() or b""
    return int(key) if key.isdigit() else -1
