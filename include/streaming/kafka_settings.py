"""Whether the settings of Kafka can be right, as far as that is seen without asking anybody."""

from include.command import BadInput
from include.settings import settings


def check_kafka_settings() -> None:
    """Raise BadInput for brokers that are not addresses, and topics that are not three."""
    for broker in settings().kafka_bootstrap.split(","):
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise BadInput(
                f"MLOPS_KAFKA_BOOTSTRAP is {settings().kafka_bootstrap!r}, and {broker!r} is not host:port; "
                "name the brokers like kafka:9092, separated by commas"
            )
    topics = settings().transactions_topic, settings().predictions_topic, settings().dead_letter_topic
    if len(set(topics)) != 3:
        raise BadInput(
            f"the topics {topics} are not three: what is read would be what was written; "
            "give MLOPS_TRANSACTIONS_TOPIC, MLOPS_PREDICTIONS_TOPIC and MLOPS_DEAD_LETTER_TOPIC different names"
        )
