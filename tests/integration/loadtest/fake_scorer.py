"""A stand-in for the scorer: answers every transaction at once, and on request wrongly.

`python -m tests.integration.loadtest.fake_scorer BOOTSTRAP [--drop-every N] [--twice-every N] [--dead-every N]`
"""

import argparse
import contextlib
import json
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("--drop-every", type=int, default=0)
    parser.add_argument("--twice-every", type=int, default=0)
    parser.add_argument("--dead-every", type=int, default=0)
    asked = parser.parse_args()
    quiet = {"bootstrap.servers": asked.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500}
    consumer = Consumer(
        quiet | {"group.id": "fake-scorer", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    producer = Producer(quiet | {"acks": "all", "enable.idempotence": True, "linger.ms": 2})
    consumer.subscribe(["transactions-input"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            messages = [one for one in consumer.consume(1_000, 0.05) if one.error() is None]
            for message in messages:
                answer(producer, message, asked)
            if messages:
                producer.flush()
                with contextlib.suppress(KafkaException):  # broker killed: it comes again
                    consumer.commit(asynchronous=False)
    finally:
        consumer.close()  # else the group waits for it, and the next test's scorer too


def answer(producer: Producer, message: object, asked: argparse.Namespace) -> None:
    transaction = json.loads(message.value())
    number = transaction["transaction_id"]
    headers = [*message.headers(), ("source", f"{message.topic()}/{message.partition()}/{message.offset()}".encode())]

    def every(some: int) -> bool:
        return bool(some) and number % some == 0

    if every(asked.drop_every):
        return
    if every(asked.dead_every):
        producer.produce(
            "transactions-dlq", message.value(), message.key(), headers=[*headers, ("error", b"on request")]
        )
        return
    value = json.dumps({"transaction_id": number, "fraud_probability": 0.5}).encode()
    for _ in range(2 if every(asked.twice_every) else 1):
        producer.produce("fraud-predictions", value, str(number).encode(), headers=headers)


if __name__ == "__main__":
    main()
