"""Step: create the stream's three topics, where they do not exist yet: `python -m include.streaming.topics`.

A topic that exists is left as it is, also with another number of partitions: adding some would send a customer's next
transactions to another partition than those that wait, out of their order.
"""

import logging
from typing import Any

from kafka.admin import KafkaAdminClient  # type: ignore[import-untyped]
from kafka.errors import TopicAlreadyExistsError  # type: ignore[import-untyped]
from pydantic import Field

from include.command import StepArgs, run
from include.settings import settings
from include.streaming.kafka_settings import check_kafka_settings

log = logging.getLogger(__name__)

DAY_MS = 24 * 3600 * 1000
KEEP_DAYS = 7  # a scorer may be away over a long weekend, and nothing is lost
KEEP_DEAD_LETTERS_DAYS = 30  # people read them
MOST_BYTES = 1_048_576  # of a message
MOST_DEAD_LETTER_BYTES = MOST_BYTES + 65_536  # the message as it came, and the headers that say why


class Args(StepArgs):
    """How the topics are laid out."""

    partitions: int = Field(6, ge=1, le=1000, description="partitions of each new topic: as many scorers can share one")
    replication: int = Field(1, ge=1, le=7, description="brokers that keep each partition of a new topic")


def main(args: Args) -> dict[str, Any]:
    """Answer: which topics were created, and which existed, with their partitions."""
    check_kafka_settings()
    wanted = {
        settings().transactions_topic: (KEEP_DAYS, MOST_BYTES),
        settings().predictions_topic: (KEEP_DAYS, MOST_BYTES),
        settings().dead_letter_topic: (KEEP_DEAD_LETTERS_DAYS, MOST_DEAD_LETTER_BYTES),
    }
    logging.getLogger("kafka").setLevel(logging.WARNING)
    admin = KafkaAdminClient(bootstrap_servers=settings().kafka_bootstrap.split(","))
    try:
        existing = {
            topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(admin.list_topics()))
        }
        created = [name for name in wanted if name not in existing and _create(admin, name, *wanted[name], args)]
    finally:
        admin.close()
    for name in created:
        log.info("created %s with %d partitions", name, args.partitions)
    return {
        "broker": settings().kafka_bootstrap,
        "created": created,
        "partitions": {name: existing.get(name, args.partitions) for name in wanted},
    }


def _create(admin: KafkaAdminClient, name: str, keep_days: int, most_bytes: int, args: Args) -> bool:
    layout = {
        "num_partitions": args.partitions,
        "replication_factor": args.replication,
        "configs": {"retention.ms": str(keep_days * DAY_MS), "max.message.bytes": str(most_bytes)},
    }
    try:
        admin.create_topics({name: layout}, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # another one was quicker
        return False
    return True


if __name__ == "__main__":
    run(main)
