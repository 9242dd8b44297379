"""The model API as a local process: the supervisor of its replicas."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

from include.local.process import Process, accepts_tcp
from include.local.state import State

FRESH_SECONDS = 10.0  # the supervisor writes every two
# A replica has 103 MiB resident without any load: of the chart's 128 that is 80 %, which would hold six for good.
MEMORY_REQUEST_MIB = 256
# A pod may use 0.2 cores and asks for half. Nothing limits a process, so the limit is only a figure that the autoscaler
# and the alert read; six times 0.2 cores beside who makes the load is more than a small machine has.
POD_CPU_LIMIT, SHARE_OF_MACHINE = 0.2, 0.02
SCALE_DOWN_SECONDS = 300
# What only tasks need.
NOT_ITS_SETTINGS = (
    *("MLOPS_SOURCE", "MLOPS_SIMULATOR_SEED", "MLOPS_LAKE_URI", "MLOPS_RUNTIME", "MLOPS_TIME_COMPRESSION"),
    *("MLOPS_KAFKA_BOOTSTRAP", "MLOPS_ATTACK_BROKERS", "MLOPS_INBOX_URL", "MLOPS_ALERT_FOR_SECONDS"),
    *("MLOPS_PROMETHEUS_URL", "MLOPS_ALERTMANAGER_URL", "MLOPS_PUSHGATEWAY_URL"),
)


def cpu_limit() -> float:
    """Cores that one replica is said to have on this machine."""
    return min(POD_CPU_LIMIT, round((os.cpu_count() or 1) * SHARE_OF_MACHINE, 3))


def model_api(state: State, port: int, settings: Mapping[str, str], factor: Fraction = Fraction(1)) -> Process:
    """The supervisor of the replicas. `settings` are those of the tasks; it gets what the API and the fetch may need.

    Its autoscaler waits a `factor` shorter before it takes replicas away. It is ready when it listens and works, also
    while nobody has asked for a version yet and it has no replicas.
    """
    folder = deployment_folder(state)
    status = folder / "status.json"
    return Process(
        name="model-api",
        argv=[
            *(sys.executable, "-m", "include.local.replicas", "--port", str(port)),
            *("--spec", str(folder / "spec.json"), "--status", str(status)),
            *("--memory-request", str(MEMORY_REQUEST_MIB), "--cpu-request", str(cpu_limit() / 2)),
            *("--scale-down-window", str(float(SCALE_DOWN_SECONDS / factor))),
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
