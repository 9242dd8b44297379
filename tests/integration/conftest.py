"""Real servers for the tests, each on free ports and in a folder that goes away."""

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from include.local import state
from include.local.airflow_api import AirflowApi
from include.local.kafka_server import kafka_server
from include.local.mlflow_server import mlflow_server as mlflow_process
from include.local.model_api import deployment_folder, model_api
from include.local.process import Process
from include.local.process_group import marks
from include.local.pushgateway_server import pushgateway_server
from include.local.redis_server import redis_server
from include.local.stack import bring_up, inherited_environment
from include.local.state import State
from include.local.supervisor import Supervisor


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[str]:
    """The address of an MLflow server that only this session's tests use."""
    with _running(lambda state, ports: mlflow_process(state, ports["mlflow"])) as process:
        yield process.address


@pytest.fixture(scope="session")
def feature_store() -> Iterator[str]:
    """The address of a Redis that only this session's tests use."""
    with _running(lambda state, ports: redis_server(state, ports["redis"])) as process:
        yield process.address


@pytest.fixture(scope="session")
def pushgateway() -> Iterator[str]:
    """The address of a Pushgateway that only this session's tests use."""
    with _running(lambda state, ports: pushgateway_server(state, ports["pushgateway"])) as process:
        yield process.address


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of a Kafka with the repository's topics that only this session's tests use."""
    with _running(kafka_server) as process:
        yield process.address


@pytest.fixture
def local_service(mlflow_server: str, feature_store: str) -> Iterator[Callable[[str], dict[str, str]]]:
    """Start the local model API for a registered model; what it gives are the settings of the steps that roll out."""
    with contextlib.ExitStack() as services:

        def start(model_name: str) -> dict[str, str]:
            settings = {
                "MLOPS_MODEL_NAME": model_name,
                "MLOPS_MLFLOW_TRACKING_URI": mlflow_server,
                "MLOPS_REDIS_URL": feature_store,
                "MLOPS_DRAIN_SECONDS": "1",
            }
            folders: list[State] = []

            def service(state: State, ports: Mapping[str, int]) -> Process:
                folders.append(state)
                return model_api(state, ports["model-api"], settings)

            address = services.enter_context(_running(service)).address
            return settings | {
                "MLOPS_MODEL_API_URL": address,
                "MLOPS_LOCAL_DEPLOYMENT": str(deployment_folder(folders[0])),
            }

        yield start


@contextlib.contextmanager
def _running(describe: Callable[[State, Mapping[str, int]], Process]) -> Iterator[Process]:
    """One process of the local stack alone."""
    with _folder() as folder:
        servers = State(Path(folder))
        supervisor = Supervisor(servers, say=print)
        try:
            process = describe(servers, servers.choose_ports(keep=False))
            supervisor.start([process], inherited_environment())
            yield process
        finally:
            supervisor.stop_all()


@pytest.fixture(scope="session")
def airflow_stack(whole_stack: Supervisor) -> AirflowApi:
    """A client of a real Airflow with the repository's DAGs, in a whole stack of its own."""
    return AirflowApi(whole_stack.running()["airflow"].address)


@pytest.fixture(scope="session")
def whole_stack() -> Iterator[Supervisor]:
    """Everything that `make up` starts."""
    with _folder() as folder:
        servers = State(Path(folder))
        supervisor = Supervisor(servers, say=print)
        try:
            bring_up(servers, say=print)
            yield supervisor
        finally:
            supervisor.stop_all()
        assert supervisor.records() == []
        assert not marks(str(servers.root)), "nothing of it runs any more"


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
