"""Which processes the local stack has, and bringing all of them up."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from include.code_version import ROOT
from include.local.airflow_standalone import airflow_standalone
from include.local.mlflow_server import mlflow_server
from include.local.model_api import deployment_folder, model_api, model_api_url
from include.local.process import Process
from include.local.process_group import MARK
from include.local.redis_server import redis_server, redis_url
from include.local.state import DEFAULT_PORTS, State
from include.local.supervisor import Supervisor

OTHERS_SETTINGS = ("AIRFLOW", "MLFLOW_", "PYTHON", "_AIRFLOW")
OURS = ("MLOPS_STATE", MARK)  # about the processes, not about what the tasks do


def bring_up(state: State, say: Callable[[str], None], dags: Path = ROOT / "dags") -> Supervisor:
    """Start what does not run yet and wait until everything serves."""
    supervisor = Supervisor(state, say)
    with state.locked():
        ports = state.choose_ports(keep=bool(supervisor.running()))
        supervisor.start(processes(state, ports, dags), inherited_environment())
    return supervisor


def processes(state: State, ports: Mapping[str, int], dags: Path) -> Sequence[Process]:
    """The stack, in the order of start."""
    ports = {**DEFAULT_PORTS, **ports}  # a stack that an older version of this file started knows fewer names
    settings = tasks_environment(state, ports)
    return [
        mlflow_server(state, ports["mlflow"]),
        redis_server(state, ports["redis"]),
        model_api(state, ports["model-api"], settings),
        airflow_standalone(state, ports, dags, settings, after=()),
    ]


def tasks_environment(state: State, ports: Mapping[str, int]) -> dict[str, str]:
    """The repository's settings as every task sees them: the caller's, on this stack."""
    asked = {name: value for name, value in os.environ.items() if name.startswith("MLOPS_") and name not in OURS}
    return {
        **asked,
        "MLOPS_RUNTIME": "local",
        # Unpausing a DAG would at once start a run for today's clock, for days nobody ingested, and the run that was
        # asked for would queue behind it.
        "MLOPS_TIMED_SCHEDULES": "false",
        "MLOPS_BAKE_SECONDS": "20",  # somebody is waiting
        "MLOPS_LAKE_URI": str(state.lake),
        "MLOPS_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "MLOPS_REDIS_URL": redis_url(ports["redis"]),
        "MLOPS_REDIS_PASSWORD": "",  # this one has none, and refuses a client that sends one
        "MLOPS_MODEL_API_URL": model_api_url(ports["model-api"]),
        "MLOPS_LOCAL_DEPLOYMENT": str(deployment_folder(state)),
    }


def inherited_environment() -> dict[str, str]:
    """The caller's environment without settings meant for another Airflow, MLflow or Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*OTHERS_SETTINGS, "MLOPS_"))}
    programs = str(Path(sys.executable).parent)  # `airflow standalone` starts `airflow` from PATH
    return {**kept, "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]), "PYTHONUNBUFFERED": "1"}
