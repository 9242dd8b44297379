"""Which processes the local stack has, and bringing all of them up."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from include.code_version import ROOT
from include.local.airflow_standalone import airflow_standalone
from include.local.mlflow_server import mlflow_server
from include.local.process import Process
from include.local.process_group import MARK
from include.local.state import State
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
    mlflow = mlflow_server(state, ports["mlflow"])
    airflow = airflow_standalone(state, ports, dags, tasks_environment(state, mlflow.address), after=())
    return [mlflow, airflow]


def tasks_environment(state: State, mlflow_address: str) -> dict[str, str]:
    """The repository's settings as every task sees them: the caller's, on this stack."""
    asked = {name: value for name, value in os.environ.items() if name.startswith("MLOPS_") and name not in OURS}
    return {
        **asked,
        "MLOPS_RUNTIME": "local",
        "MLOPS_LAKE_URI": str(state.lake),
        "MLOPS_MLFLOW_TRACKING_URI": mlflow_address,
    }


def inherited_environment() -> dict[str, str]:
    """The caller's environment without settings meant for another Airflow, MLflow or Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*OTHERS_SETTINGS, "MLOPS_"))}
    programs = str(Path(sys.executable).parent)  # `airflow standalone` starts `airflow` from PATH
    return {**kept, "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]), "PYTHONUNBUFFERED": "1"}
