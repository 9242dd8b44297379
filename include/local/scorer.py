"""The scorer as a local process: from the transactions in Kafka to the scores in Kafka."""

import sys
from collections.abc import Mapping

from include.local.process import Process, answers_http

# What it reads; another value of any other setting is no reason to interrupt it.
ITS_SETTINGS = (
    *("MLOPS_KAFKA_BOOTSTRAP", "MLOPS_MODEL_API_URL"),
    *("MLOPS_TRANSACTIONS_TOPIC", "MLOPS_PREDICTIONS_TOPIC", "MLOPS_DEAD_LETTER_TOPIC"),
)


def scorer(port: int, settings: Mapping[str, str]) -> Process:
    """One scorer, which waits for the model API by itself. `settings` are those of the tasks."""
    address = f"http://127.0.0.1:{port}"
    return Process(
        name="scorer",
        argv=[sys.executable, "-m", "include.streaming.scorer", "--metrics-port", str(port)],
        env={name: settings[name] for name in ITS_SETTINGS if name in settings},
        ready=answers_http(f"{address}/metrics"),
        address=address,
        port=port,
        after=("kafka",),
    )
