"""Real servers for the tests, each on free ports and in a folder that goes away."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.local import state
from include.local.airflow_api import AirflowApi
from include.local.mlflow_server import mlflow_server as mlflow_process
from include.local.stack import bring_up, inherited_environment
from include.local.state import State
from include.local.supervisor import Supervisor


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[str]:
    """The address of an MLflow server that only this session's tests use."""
    with _folder() as folder:
        servers = State(Path(folder))
        supervisor = Supervisor(servers, say=print)
        try:
            process = mlflow_process(servers, servers.choose_ports(keep=False)["mlflow"])
            supervisor.start([process], inherited_environment())
            yield process.address
        finally:
            supervisor.stop_all()


@pytest.fixture(scope="session")
def airflow_stack() -> Iterator[AirflowApi]:
    """A client of a real Airflow with the repository's DAGs and an MLflow server of its own."""
    with _folder() as folder:
        servers = State(Path(folder))
        supervisor = Supervisor(servers, say=print)
        try:
            yield AirflowApi(bring_up(servers, say=print).running()["airflow"].address)
        finally:
            supervisor.stop_all()


@pytest.fixture(scope="session", autouse=True)
def _ports_of_its_own() -> Iterator[None]:
    """Tests leave the default ports to the stack that a person may have running."""
    with socket.socket() as taken, pytest.MonkeyPatch.context() as patch:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        patch.setattr(state, "DEFAULT_PORTS", dict.fromkeys(state.DEFAULT_PORTS, taken.getsockname()[1]))
        yield


def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="servers-", ignore_cleanup_errors=True)
