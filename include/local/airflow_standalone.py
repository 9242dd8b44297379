"""Airflow as a local process: ``airflow standalone`` with tasks as child processes of the scheduler."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from include.code_version import ROOT
from include.local.process import PROBE_SECONDS, Process
from include.local.state import State

COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


def airflow_standalone(
    state: State,
    ports: Mapping[str, int],
    dags: Path,
    tasks_env: Mapping[str, str],
    database: str,
    after: tuple[str, ...],
) -> Process:
    """All components of Airflow in one process group. `tasks_env` reaches every task."""
    address = f"http://127.0.0.1:{ports['airflow']}"
    settings = _where(state, dags, database) | _lean() | _network(ports, address)
    return Process(
        name="airflow",
        argv=[str(Path(sys.executable).parent / "airflow"), "standalone"],
        env={**{f"AIRFLOW__{name}": value for name, value in settings.items()}, **_paths(state), **tasks_env},
        ready=all_healthy(address),
        address=address,
        port=ports["airflow"],
        after=after,
        ready_within=420.0,  # a first start on a machine that was busy otherwise took 221 s
    )


def all_healthy(address: str) -> Callable[[], bool]:
    """Ready when every component reports itself healthy; the page itself answers 200 long before."""

    def probe() -> bool:
        try:
            answer = httpx.get(f"{address}/api/v2/monitor/health", timeout=PROBE_SECONDS, trust_env=False)
        except httpx.TransportError:
            return False
        health = answer.json() if answer.is_success else {}
        return all(health.get(component, {}).get("status") == "healthy" for component in COMPONENTS)

    return probe


def _paths(state: State) -> dict[str, str]:
    return {"AIRFLOW_HOME": str(state.data("airflow")), "PYTHONPATH": str(ROOT)}


def _where(state: State, dags: Path, database: str) -> dict[str, str]:
    home = state.data("airflow")
    return {
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "CORE__LOAD_EXAMPLES": "False",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # it listens to this machine only
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    }


def _lean() -> dict[str, str]:
    return {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "3",
        "API__WORKERS": "1",
        "TRIGGERER__DEFAULT_CAPACITY": "10",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        # A changed file is read again at once; this is how often an unchanged one is, at some seconds of CPU each.
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
    }


def _network(ports: Mapping[str, int], address: str) -> dict[str, str]:
    return {
        "API__HOST": "127.0.0.1",
        "API__PORT": str(ports["airflow"]),
        "API__BASE_URL": address,
        "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "LOGGING__WORKER_LOG_SERVER_PORT": str(ports["airflow-worker-logs"]),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(ports["airflow-trigger-logs"]),
    }
