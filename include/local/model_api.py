"""The model API as a local process: the supervisor of its replicas."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from include.local.process import Process, accepts_tcp
from include.local.state import State

FRESH_SECONDS = 10.0  # the supervisor writes every two
# A replica has 103 MiB resident without any load: of the chart's 128 that is 80 %, which would hold six for good.
MEMORY_REQUEST_MIB = 256
# What only tasks need.
NOT_ITS_SETTINGS = (
    *("MLOPS_SOURCE", "MLOPS_SIMULATOR_SEED", "MLOPS_LAKE_URI", "MLOPS_RUNTIME", "MLOPS_TIME_COMPRESSION"),
    *("MLOPS_KAFKA_BOOTSTRAP", "MLOPS_ATTACK_BROKERS", "MLOPS_INBOX_URL"),
    *("MLOPS_PROMETHEUS_URL", "MLOPS_ALERTMANAGER_URL", "MLOPS_PUSHGATEWAY_URL"),
)


def model_api(state: State, port: int, settings: Mapping[str, str]) -> Process:
    """The supervisor of the replicas. `settings` are those of the tasks; it gets what the API and the fetch may need.

    It is ready when it listens and works, also while nobody has asked for a version yet and it has no replicas.
    """
    folder = deployment_folder(state)
    status = folder / "status.json"
    return Process(
        name="model-api",
        argv=[
            *(sys.executable, "-m", "include.local.replicas", "--port", str(port)),
            *("--spec", str(folder / "spec.json"), "--status", str(status)),
            *("--memory-request", str(MEMORY_REQUEST_MIB)),
        ],
        # Another source of transactions is no reason to interrupt the service.
        env={name: value for name, value in settings.items() if name not in NOT_ITS_SETTINGS},
        ready=listens_and_works(port, status),
        address=model_api_url(port),
        port=port,
    )


def model_api_url(port: int) -> str:
    """What clients of the local model API connect to."""
    return f"http://127.0.0.1:{port}"


def deployment_folder(state: State) -> Path:
    """Where spec.json says what is asked for, and status.json what there is."""
    return state.data("model-api")


def listens_and_works(port: int, status: Path) -> Callable[[], bool]:
    """Ready when the port accepts connections and the status is fresh."""
    accepts = accepts_tcp(port)

    def probe() -> bool:
        try:
            json.loads(status.read_text())
            age = time.time() - status.stat().st_mtime
        except (OSError, ValueError):
            return False
        return age < FRESH_SECONDS and accepts()

    return probe
