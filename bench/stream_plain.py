"""What people write: for each micro-batch, for each row, one `requests.post`; then write, flush and commit.

It is the body of a `foreachBatch` that collects its rows, without Spark around it: Spark's own cost is not held against
it, and its executors do not help it either. `python -m bench.stream_plain INPUT PREDICTIONS`
"""

import json
import sys

import requests
from confluent_kafka import Consumer, Producer

from include.settings import settings

BATCH = 500


def main() -> None:
    """Until it is killed."""
    source, target = sys.argv[1:]
    broker = {"bootstrap.servers": settings().kafka_bootstrap, "log_level": 0}
    consumer = Consumer(broker | {"group.id": source, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    producer = Producer(broker | {"acks": "all", "enable.idempotence": True})
    consumer.subscribe([source])
    url = settings().model_api_url + "/predict"
    while True:
        rows = [message for message in consumer.consume(BATCH, 0.1) if message.error() is None]
        for row in rows:
            answer = requests.post(url, json=json.loads(row.value()), timeout=60)
            answer.raise_for_status()
            producer.produce(target, answer.content, str(answer.json()["transaction_id"]))
        if rows:
            producer.flush()
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
