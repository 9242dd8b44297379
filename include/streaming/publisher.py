"""Writes outcomes to Kafka, each until the brokers have acknowledged it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from include.streaming import metrics
from include.streaming.messages import Header
from include.streaming.model_api import wait_seconds

log = logging.getLogger(__name__)

LINGER_MS = 2
MOST_BYTES = 4_194_304  # larger than any topic takes: what is too large is for the broker to say
TOLD_EVERY = 20  # tries

Acknowledged = Callable[[], None]


class Publisher:
    """An idempotent producer. It is served by `poll`, which the event loop's thread calls often."""

    def __init__(self, brokers: str, failed: Callable[[str], None]) -> None:
        """`failed` is told when the producer can never write again."""
        self._failed = failed
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "enable.idempotence": True,  # and so acks=all
                "message.timeout.ms": 0,  # a broker that is away is waited for
                "message.max.bytes": MOST_BYTES,
                "linger.ms": LINGER_MS,
                "reconnect.backoff.max.ms": 1000,
                "error_cb": self._told,
                "log_level": 0,
            }
        )

    def publish(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Header],
                acknowledged: Acknowledged, tries: int = 0) -> None:  # fmt: skip
        """Write it; `acknowledged` is called in `poll` when the brokers have it."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                acknowledged()
            elif not error.fatal():
                again(error)

        def again(error: Any) -> None:
            if tries % TOLD_EVERY == 0:
                log.warning("%s did not take a message, it is sent again: %s", topic, error)
            metrics.RETRIES.labels("delivery").inc()
            asyncio.get_running_loop().call_later(
                wait_seconds(tries), self.publish, topic, key, value, headers, acknowledged, tries + 1
            )

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered, headers=list(headers))
        except BufferError as error:
            again(error)
        except KafkaException as error:
            if error.args[0].fatal():
                self._failed(str(error))
            else:
                again(error)

    def poll(self) -> None:
        """Call what is due."""
        self._producer.poll(0)

    def _told(self, error: KafkaError) -> None:
        if error.fatal():
            self._failed(str(error))
