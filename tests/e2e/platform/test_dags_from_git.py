"""A push reaches the running Airflow, by git-sync and by GitDagBundle; what is broken does not, or is undone."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from include.local.airflow_api import AirflowApi
from tests.e2e.cluster import port_forward, wait_for
from tests.e2e.platform import installation
from tests.e2e.platform.conftest import Platform

DAGS = {"ingest_transactions", "retrain_model", "redeploy_model", "backup_databases", "restore_database", "alert_drill"}
WATCHED = "retrain_model"
FILE = f"dags/{WATCHED}.py"
TAGS = "tags=[Tag.MODEL, Tier.TWO"


@pytest.fixture(scope="module", params=["git-sync", "GitDagBundle"])
def variant(request: pytest.FixtureRequest, platform: Platform) -> Iterator[str]:
    """Airflow with its DAGs by the one way, then by the other; the tests of the one before those of the other."""
    if request.param == "GitDagBundle":
        installation.airflow("airflow-git-bundle.yaml")
    yield request.param
    if request.param == "GitDagBundle":
        installation.airflow()


def test_all_six_dags_are_there(variant: str, api: AirflowApi) -> None:
    wait_for(lambda: all(api.dag(name) for name in DAGS), "six DAGs", 240)
    assert api.import_errors() == {}


def test_a_push_reaches_the_running_airflow(
    variant: str, platform: Platform, api: AirflowApi, facts: dict[str, Any]
) -> None:
    """A changed DAG file, and a changed file of include/ that a DAG imports."""
    repository, took = platform.repository, {}
    changes: list[tuple[str, str, Callable[[str], str]]] = [
        (FILE, "pushed-1", lambda text: text.replace(TAGS, f'{TAGS}, "pushed-1"')),
        (FILE, "pushed-2", lambda text: text.replace("pushed-1", "pushed-2")),
        ("include/pipeline/tags.py", "pushed-3", lambda text: text.replace('MODEL = "model"', 'MODEL = "pushed-3"')),
    ]
    for file, tag, change in changes:
        repository.commit(file, change)
        repository.push("release")
        began = time.monotonic()
        wait_for(lambda tag=tag: tag in _tags(api), f"the pushed {file}", 180)
        took[f"{tag} {file}"] = round(time.monotonic() - began, 1)
    facts["platform"][f"push to DAG, {variant}, s"] = took
    _undo(platform, api)


def test_a_broken_commit_on_main_never_arrives(variant: str, platform: Platform, api: AirflowApi) -> None:
    """Airflow follows `release`, and CI does not move that one."""
    platform.repository.commit(FILE, _break)
    platform.repository.push("main")
    for _ in range(20):  # three periods
        assert api.import_errors() == {}
        assert _tags(api) == ["model", "tier-2: this week"]
        time.sleep(1.5)
    platform.repository.back()
    platform.repository.push("main")


def test_a_broken_one_on_release_is_told_and_undone(
    variant: str, platform: Platform, api: AirflowApi, facts: dict[str, Any]
) -> None:
    installation.monitoring_ready()
    platform.repository.commit(FILE, _break)
    platform.repository.push("release")
    began = time.monotonic()
    took: dict[str, float] = {}

    def after(what: str, condition: Callable[[], Any]) -> None:
        wait_for(condition, what, 240)
        took[what] = round(time.monotonic() - began, 1)

    after("import error", lambda: "broken on purpose" in "".join(api.import_errors().values()))
    with port_forward("service/prometheus", 9090) as port:
        after("alert", lambda: _firing(port))
    with port_forward("service/inbox", 8025) as port:
        after("mail or webhook", lambda: "DagImportErrors" in _messages(port))
    platform.repository.back()
    platform.repository.push("release")
    began = time.monotonic()
    after("undone", lambda: api.import_errors() == {} and _listed(api))
    with port_forward("service/prometheus", 9090) as port:
        after("alert over", lambda: not _firing(port))
    facts["platform"][f"a broken commit on release, {variant}, s"] = took


def _undo(platform: Platform, api: AirflowApi) -> None:
    platform.repository.back()
    platform.repository.push("release")
    wait_for(lambda: _tags(api) == ["model", "tier-2: this week"], "the tested commit again", 180)


def _tags(api: AirflowApi) -> list[str]:
    """What Airflow's list shows of the DAG."""
    dag = api.dag(WATCHED)
    return sorted(tag["name"] for tag in dag["tags"]) if dag else []


def _listed(api: AirflowApi) -> bool:
    dag = api.dag(WATCHED)
    return bool(dag) and not dag["is_stale"]


def _break(text: str) -> str:
    return text.replace(
        "from airflow.sdk import", 'raise RuntimeError("broken on purpose")\nfrom airflow.sdk import', 1
    )


def _firing(port: int) -> bool:
    query = 'ALERTS{alertname="DagImportErrors",alertstate="firing"}'
    url = f"http://127.0.0.1:{port}/api/v1/query"
    return bool(httpx.get(url, params={"query": query}, trust_env=False).json()["data"]["result"])


def _messages(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/messages", trust_env=False).text
