"""The partitions that this scorer has: reading them, committing what is done, and their lag."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from include.streaming import metrics
from include.streaming.offsets import UNKNOWN, Progress

log = logging.getLogger(__name__)

AT_ONCE = 500
ASK_SECONDS = 5.0
PAUSE_AFTER_SECONDS = 1.0  # pausing throws away what was fetched ahead: not for a moment without room
METADATA_MS = 5000  # librdkafka may believe what a broker said while it started (no leader) until it asks anew
SESSION_MS = 6000  # the least that brokers allow: so long nobody reads what a killed scorer had


class Partitions:
    """A member of the consumer group. Everything happens in the thread that calls `read`."""

    def __init__(self, brokers: str, topic: str, group: str) -> None:
        self.joined = False
        self._topic, self._group = topic, group
        self._progress: dict[int, Progress] = {}
        self._no_room_since: float | None = None
        self._paused = False
        self._kafka_up: bool | None = None
        brokers_only: dict[str, Any] = {
            "bootstrap.servers": brokers,
            "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
            "topic.metadata.refresh.interval.ms": METADATA_MS,
            "metadata.max.age.ms": METADATA_MS * 2,
        }
        self._admin = AdminClient(brokers_only)
        self._consumer = Consumer(
            brokers_only
            | {
                "group.id": group,
                "client.id": group,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": SESSION_MS // 4,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "queued.min.messages": 5_000,
                "queued.max.messages.kbytes": 16_384,
                "fetch.queue.backoff.ms": 20,
                "on_commit": self._committed,
            }
        )

    def join(self) -> None:
        """Become a member of the group."""
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def __len__(self) -> int:
        return len(self._progress)

    def read(self, room: int) -> list[tuple[Message, Progress]]:
        """What there is to read now, at most `room`; without room, only the group's own matters are seen to."""
        self._pause_or_resume(room)
        if room <= 0 and not self._paused:
            return []
        found = []
        for message in self._consumer.consume(min(max(room, 1), AT_ONCE), 0):
            error = message.error()
            progress = self._progress.get(message.partition() or 0)
            if error is not None:
                self._trouble(error)
            elif progress is not None:
                self._count(message, progress)
                found.append((message, progress))
        return found

    def commit(self) -> None:
        """Commit what is done since the last time, without waiting for it."""
        offsets = self._to_commit()
        if offsets:
            with contextlib.suppress(KafkaException):  # with the next
                self._consumer.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Commit what is done and leave the group."""
        self._commit_now(self._to_commit())
        self._consumer.close()

    async def measure_lag(self) -> None:
        """How many messages of each partition have no outcome; what the brokers do not tell stays as it was."""
        mine = dict(self._progress)
        try:
            ends = await self._offsets(mine, OffsetSpec.latest())
            begins = await self._offsets(
                {number: one for number, one in mine.items() if one.position == UNKNOWN}, OffsetSpec.earliest()
            )
        except (KafkaException, TimeoutError) as error:
            self._kafka(False, str(error) or "no answer")
            return
        self._kafka(True, "")
        for number, end in ends.items():
            if mine[number].owned:
                position = mine[number].position
                done = begins.get(number, end) if position == UNKNOWN else position
                metrics.LAG.labels(self._topic, number, self._group).set(max(end - done, 0))

    async def missing(self, topics: Sequence[str]) -> list[str] | None:
        """Which topics the brokers do not have; None when they do not answer."""
        try:
            existing = (await asyncio.to_thread(self._admin.list_topics, timeout=ASK_SECONDS)).topics
        except KafkaException as error:
            self._kafka(False, str(error))
            return None
        self._kafka(True, "")
        return [topic for topic in topics if topic not in existing]

    async def _offsets(self, mine: dict[int, Progress], which: OffsetSpec) -> dict[int, int]:
        if not mine:
            return {}
        asked = self._admin.list_offsets(
            {TopicPartition(self._topic, number): which for number in mine}, request_timeout=ASK_SECONDS
        )
        async with asyncio.timeout(2 * ASK_SECONDS):
            return {partition.partition: (await asyncio.wrap_future(one)).offset for partition, one in asked.items()}

    def _count(self, message: Message, progress: Progress) -> None:
        skipped = progress.read(message.offset() or 0)
        if skipped:
            metrics.SKIPPED.inc(skipped)
            log.error(
                "%d offsets before %s/%d/%d are gone: read sooner or keep the topic longer (retention.ms)",
                *(skipped, self._topic, progress.partition, message.offset()),
            )

    def _pause_or_resume(self, room: int) -> None:
        now = time.monotonic()
        if room > 0:
            self._no_room_since = None
            if self._paused:
                self._consumer.resume(self._consumer.assignment())
                self._paused = False
        elif self._no_room_since is None:
            self._no_room_since = now
        elif not self._paused and now - self._no_room_since > PAUSE_AFTER_SECONDS:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.joined = True
        try:
            partitions = consumer.committed(partitions, timeout=ASK_SECONDS) if partitions else []
        except KafkaException as error:
            log.warning("the committed offsets are not known yet: %s", error)
        for one in partitions:
            begin = one.offset if one.offset is not None and one.offset >= 0 else UNKNOWN
            self._progress[one.partition] = Progress(one.topic, one.partition, begin)
            one.offset = OFFSET_INVALID  # begin where the group is, or at the first message there is
        consumer.incremental_assign(partitions)
        # Said each time: a partition that was paused when it was lost comes back paused, and nobody would resume it.
        (consumer.pause if self._paused else consumer.resume)(partitions)
        log.info("has partitions %s", sorted(self._progress))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        leaving = {one.partition for one in partitions}
        self._commit_now([one for one in self._to_commit() if one.partition in leaving])
        self._give_up(leaving)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Others may have them already: no commit."""
        self._give_up({one.partition for one in partitions})

    def _give_up(self, numbers: set[int]) -> None:
        for number in numbers & set(self._progress):
            self._progress.pop(number).owned = False
            with contextlib.suppress(KeyError):  # never measured
                metrics.LAG.remove(self._topic, number, self._group)
        if numbers:
            log.info("gave up partitions %s, has %s", sorted(numbers), sorted(self._progress))

    def _to_commit(self) -> list[TopicPartition]:
        return [
            TopicPartition(one.topic, one.partition, one.position) for one in self._progress.values() if one.to_commit
        ]

    def _commit_now(self, offsets: list[TopicPartition]) -> None:
        if not offsets or not self._kafka_up:  # asking who is away would last
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("not committed, so it will be read again: %s", error)

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """What was refused is committed again with the next."""
        for one in partitions:
            progress = self._progress.get(one.partition)
            if error is None and one.error is None and progress is not None and one.offset is not None:
                progress.committed = max(progress.committed, one.offset)

    def _kafka(self, up: bool, why: str) -> None:
        if up != self._kafka_up:
            if up:
                log.info("Kafka answers")
            else:
                log.warning("Kafka is away (%s); waiting for it", why)
        self._kafka_up = up
        metrics.KAFKA_UP.set(up)

    def _trouble(self, error: KafkaError) -> None:
        if error.fatal():
            raise KafkaException(error)
        log.warning("Kafka: %s", error)
