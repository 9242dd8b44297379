"""What the model API counts. Every label has few values, whatever is sent."""

from prometheus_client import Counter, Gauge, Histogram

QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

PREDICTIONS = Counter("ml_model_predictions", "Transactions scored", ["decision"])
PREDICTION_SECONDS = Histogram(
    "ml_model_prediction_duration_seconds", "One batch: histories, inputs, model", buckets=QUICK
)
BATCH_ROWS = Histogram("ml_model_batch_rows", "Transactions in one batch", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
ERRORS = Counter("ml_model_errors", "Requests to /predict that got no prediction", ["reason"])
REQUESTS = Counter("http_requests", "Answers", ["method", "path", "status"])
REQUEST_SECONDS = Histogram("http_request_duration_seconds", "Time to the whole answer", ["path"], buckets=QUICK)
INFO = Gauge("ml_model_info", "The version this process serves", ["name", "version"])
DEGRADED = Counter("ml_features_degraded", "Transactions scored with the snapshot's history", ["reason"])
UNSAVED_DROPPED = Counter("ml_features_unsaved_dropped", "Scored events lost because Redis was away for too long")
IN_FLIGHT = Gauge("ml_requests_in_flight", "Requests that wait for their answer")
QUEUE_ROWS = Gauge("ml_queue_rows", "Transactions that wait for a batch")
