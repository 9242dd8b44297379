"""Which processes the local stack has, and bringing all of them up."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from include.code_version import ROOT
from include.local import compression
from include.local.airflow_standalone import airflow_standalone
from include.local.alertmanager_server import alertmanager_server
from include.local.inbox_server import inbox_server
from include.local.kafka_server import kafka_address, kafka_server
from include.local.keeper_process import keeper
from include.local.mlflow_server import mlflow_server
from include.local.model_api import deployment_folder, model_api, model_api_url
from include.local.postgres_server import database_url, postgres_server, services_folder
from include.local.process import Process
from include.local.process_group import MARK
from include.local.programs import PROGRAMS, provide
from include.local.prometheus_server import prometheus_server
from include.local.pushgateway_server import pushgateway_server
from include.local.redis_server import redis_server, redis_url
from include.local.replica_files import targets_file
from include.local.scorer import scorer
from include.local.state import DEFAULT_PORTS, State
from include.local.supervisor import Supervisor

OTHERS_SETTINGS = ("AIRFLOW", "MLFLOW_", "PYTHON", "_AIRFLOW")
OURS = ("MLOPS_STATE", MARK)  # about the processes, not about what the tasks do
COMPRESSION = "15"  # five minutes in twenty seconds: somebody is waiting
FOR_SECONDS = 300  # of the admin's alert
PATIENCE_SECONDS = 90.0  # for the keeper, which may be starting what has died


def bring_up(state: State, say: Callable[[str], None], dags: Path = ROOT / "dags") -> Supervisor:
    """Start what does not run yet and wait until everything serves."""
    provide(list(PROGRAMS), say)
    supervisor = Supervisor(state, say)
    with state.locked(PATIENCE_SECONDS):
        ports = state.choose_ports(keep=bool(supervisor.running()))
        supervisor.start(processes(state, ports, dags), inherited_environment())
    return supervisor


def processes(state: State, ports: Mapping[str, int], dags: Path) -> Sequence[Process]:
    """The stack, in the order of start."""
    ports = {**DEFAULT_PORTS, **ports}  # a stack that an older version of this file started knows fewer names
    settings = tasks_environment(state, ports)
    factor = compression.factor_of(settings[compression.SETTING])
    replicas = targets_file(deployment_folder(state) / "status.json")
    database = {name: database_url(ports["postgres"], name) for name in ("airflow", "mlflow")}
    serving = [
        postgres_server(state, ports["postgres"]),
        kafka_server(state, ports),
        redis_server(state, ports["redis"]),
        mlflow_server(state, ports["mlflow"], database["mlflow"], after=("postgres",)),
        model_api(state, ports["model-api"], settings, factor),
        pushgateway_server(state, ports["pushgateway"]),
        inbox_server(state, ports),
        alertmanager_server(state, ports, factor),
        prometheus_server(state, ports, replicas, factor),
        scorer(ports["scorer"], settings),
        airflow_standalone(state, ports, dags, settings, database["airflow"], after=("postgres",)),
    ]
    return [*serving, keeper(state, dags, asked_settings(), after=[process.name for process in serving])]


def tasks_environment(state: State, ports: Mapping[str, int]) -> dict[str, str]:
    """The repository's settings as every task sees them: the caller's, on this stack."""
    asked = {compression.SETTING: COMPRESSION, **asked_settings()}
    factor = compression.factor_of(asked[compression.SETTING])
    return {
        **asked,
        "MLOPS_ALERT_FOR_SECONDS": str(float(FOR_SECONDS / factor)),
        "MLOPS_RUNTIME": "local",
        # Unpausing a DAG would at once start a run for today's clock, for days nobody ingested, and the run that was
        # asked for would queue behind it.
        "MLOPS_TIMED_SCHEDULES": "false",
        "MLOPS_BAKE_SECONDS": "20",  # somebody is waiting
        "MLOPS_LAKE_URI": str(state.lake),
        "MLOPS_BACKUP_URI": str(state.root / "backups"),
        "MLOPS_LOCAL_SERVICES": str(services_folder(state)),
        "MLOPS_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports['mlflow']}",
        "MLOPS_REDIS_URL": redis_url(ports["redis"]),
        "MLOPS_REDIS_PASSWORD": "",  # this one has none, and refuses a client that sends one
        "MLOPS_MODEL_API_URL": model_api_url(ports["model-api"]),
        "MLOPS_LOCAL_DEPLOYMENT": str(deployment_folder(state)),
        "MLOPS_KAFKA_BOOTSTRAP": kafka_address(ports["kafka"]),
        "MLOPS_ATTACK_BROKERS": kafka_address(ports["kafka"]),
        "MLOPS_PROMETHEUS_URL": f"http://127.0.0.1:{ports['prometheus']}",
        "MLOPS_ALERTMANAGER_URL": f"http://127.0.0.1:{ports['alertmanager']}",
        "MLOPS_PUSHGATEWAY_URL": f"http://127.0.0.1:{ports['pushgateway']}",
        "MLOPS_INBOX_URL": f"http://127.0.0.1:{ports['inbox']}",
    }


def asked_settings() -> dict[str, str]:
    """The settings in the caller's environment."""
    return {name: value for name, value in os.environ.items() if name.startswith("MLOPS_") and name not in OURS}


def inherited_environment() -> dict[str, str]:
    """The caller's environment without settings meant for another Airflow, MLflow or Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*OTHERS_SETTINGS, "MLOPS_"))}
    programs = str(Path(sys.executable).parent)  # `airflow standalone` starts `airflow` from PATH
    return {**kept, "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]), "PYTHONUNBUFFERED": "1"}
