"""One installation of everything for the tests of this folder."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from include.local.airflow_api import AirflowApi
from tests.e2e import cluster
from tests.e2e.cluster import port_forward
from tests.e2e.platform import installation
from tests.e2e.platform.git_server import Repository, git_server
from tests.e2e.platform.object_store import ObjectStore, object_store


@dataclass(frozen=True)
class Platform:
    """What was set up, and how to get in."""

    store: ObjectStore
    repository: Repository
    passwords: dict[str, str]

    def log_in(self, port: int) -> AirflowApi:
        """Airflow's REST API as its first user."""
        return AirflowApi(f"http://127.0.0.1:{port}", ("admin", self.passwords["airflow-admin"]))


@pytest.fixture(scope="session")
def platform(facts: dict[str, Any]) -> Iterator[Platform]:
    """From an empty cluster to an Airflow that answers."""
    missing = cluster.tools_missing()
    assert not missing, f"install {', '.join(missing)} and put them on PATH"
    try:
        installation.airflow_chart()
    except AssertionError as error:
        # A wrong name or version is a fault; only a machine without a way to the repository may do without.
        if os.environ.get("E2E_AIRFLOW_CHART") or "dial tcp" not in str(error):
            raise
        pytest.skip(f"no way to Airflow's chart, and E2E_AIRFLOW_CHART names no archive of it: {error}"[:300])
    installation.remove()
    installation.images()
    began = time.monotonic()
    with object_store() as store:
        words = installation.passwords(store)
        installation.base(store)
        installation.secrets_of(words)
        installation.data_stores()
        with git_server() as repository:
            installation.airflow()
            facts["platform"] = {"install_seconds": round(time.monotonic() - began)}
            yield Platform(store, repository, words)
    if not os.environ.get("E2E_KEEP"):
        installation.remove()


@pytest.fixture
def api(platform: Platform) -> Iterator[AirflowApi]:
    with port_forward("service/airflow-api-server", 8080, "airflow") as port:
        yield platform.log_in(port)
