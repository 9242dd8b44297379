"""What the scorer counts. Every label has few values, whatever is read."""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

CONSUMED = Counter("scorer_consumed", "Messages read")
SCORED = Counter("scorer_scored", "Predictions acknowledged by Kafka")
DEAD_LETTERED = Counter("scorer_dead_lettered", "Dead letters acknowledged by Kafka", ["reason"])
IN_FLIGHT = Gauge("scorer_in_flight", "Messages read that have no outcome yet")
END_TO_END = Histogram(
    "scorer_end_to_end_seconds", "From when a transaction was due to its prediction's ack", buckets=SECONDS
)
BATCH_ROWS = Histogram("scorer_batch_rows", "Transactions in one request", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
REQUEST_SECONDS = Histogram("scorer_request_seconds", "One answer of the model API", buckets=SECONDS)
RETRIES = Counter("scorer_retries", "Requests and deliveries that were tried again", ["what"])
SKIPPED = Counter(
    "scorer_offsets_skipped", "Offsets that the broker no longer had: messages lost before they were read"
)
API_UP = Gauge("scorer_api_up", "1 while the model API answers")
KAFKA_UP = Gauge("scorer_kafka_up", "1 while the brokers answer")
LAG = Gauge("kafka_consumer_lag", "Messages of a partition that have no outcome yet", ["topic", "partition", "group"])
