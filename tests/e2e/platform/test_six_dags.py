"""Every DAG of the repository, run by the Airflow of the cluster, started over its REST API, its steps as pods."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from include.local.airflow_api import AirflowApi
from include.local.dag_runs import DagRun, run_dag, wait_until_parsed
from include.local.demo_days import demo_days
from tests.e2e import cluster
from tests.e2e.client_pod import TRANSACTION, sending
from tests.e2e.cluster import RELEASE, is_ready, kubectl, pods, port_forward, run, wait_for
from tests.e2e.drill_platform import DRILL, SMALL
from tests.e2e.platform import installation
from tests.e2e.platform.conftest import Platform
from tests.e2e.step_pods import StepPods

CONSOLE = Console(force_terminal=False)
DAYS = demo_days(None)
ROLLOUT = {"app.kubernetes.io/name": "mlops-step", "app.kubernetes.io/component": "serving"}
# Two that are fitted in seconds: what is shown here is the way, how good they are is for bench/quality.
RETRAIN = {"as_of": str(DAYS.as_of), "candidates": ["decision_tree", "logistic_regression"]}


@pytest.fixture(scope="module")
def service(platform: Platform) -> str:
    """The model API before there is a model: its Redis is there, its replicas wait for version 1."""
    installation.monitoring_ready()
    installation.service(version="1")
    return RELEASE


@pytest.fixture(scope="module")
def watched(service: str) -> Iterator[StepPods]:
    with StepPods("app.kubernetes.io/name=mlops-step") as step_pods:
        yield step_pods


@pytest.fixture
def dag(api: AirflowApi, watched: StepPods, facts: dict[str, Any]) -> Callable[..., DagRun]:
    def triggered(dag_id: str, conf: dict[str, Any]) -> DagRun:
        wait_until_parsed(api, dag_id, CONSOLE)
        done = run_dag(api, dag_id, conf, CONSOLE)
        facts["platform"].setdefault("dags", {})[done.title] = {"state": done.state, "seconds": round(done.seconds)}
        assert done.state == "success", f"{done.title}: {[task['task_id'] for task in done.failed_tasks()]}"
        return done

    return triggered


def test_ingest_transactions(dag: Callable[..., DagRun]) -> None:
    dag("ingest_transactions", {"first": str(DAYS.first), "last": str(DAYS.as_of)})


def test_retrain_model(dag: Callable[..., DagRun], api: AirflowApi) -> None:
    done = dag("retrain_model", RETRAIN)
    assert api.xcom("retrain_model", done.run_id, "promote")["version"] == "1"


def test_the_service_answers(service: str, watched: StepPods) -> None:
    """The replicas found version 1 by themselves."""
    wait_for(lambda: len(pods()) >= 4 and all(map(is_ready, pods())), "four replicas are ready", 420)
    with port_forward(f"service/{RELEASE}", 80) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False).status_code == 200


def test_redeploy_model(dag: Callable[..., DagRun]) -> None:
    """A second version, of the week that follows: every replica is replaced. One that is live already would not be."""
    dag("ingest_transactions", {"first": str(DAYS.as_of + timedelta(days=1)), "last": str(DAYS.next_as_of)})
    dag("retrain_model", {**RETRAIN, "as_of": str(DAYS.next_as_of), "rule": "not_worse", "margin": 1.0})
    before = {pod["metadata"]["name"] for pod in pods()}
    # A version is judged under traffic; who may reach the replicas is whoever a rollout's step is.
    with sending(f"http://{RELEASE}", [TRANSACTION], per_second=15, labels=ROLLOUT) as done:
        dag("redeploy_model", {"version": "2", "bake_seconds": 30, "force": True})
    assert done["sent"] > 100
    assert done["failed"] == 0, done["failures"]
    assert cluster.versions() == ["2"] * len(pods())
    assert not before & {pod["metadata"]["name"] for pod in pods()}


def test_backup_databases(dag: Callable[..., DagRun], platform: Platform) -> None:
    """Into the bucket, verified."""
    dag("backup_databases", {})
    listed = platform.store.client().list_objects_v2(Bucket="mlops-backups")
    names = [one["Key"] for one in listed["Contents"]]
    for database in ("mlflow", "airflow"):
        assert any(f"/{database}/" in name and name.endswith(".verified.json") for name in names), names


def test_restore_database(dag: Callable[..., DagRun]) -> None:
    dag("restore_database", {"database": "mlflow", "backup": "latest", "target": "mlflow_before", "approve": False})
    found = kubectl("exec", "postgres-0", "--", "psql", "-U", "postgres", "-d", "mlflow_before", "-qAt", "-c",
                    "SELECT count(*) FROM model_versions")  # fmt: skip
    assert found.strip() == "2"


def test_alert_drill(dag: Callable[..., DagRun], api: AirflowApi) -> None:
    installation.scorer()
    kubectl("rollout", "status", "deployment/scorer", "--timeout=180s", timeout=200)
    spec = {"template": {"spec": {"containers": [{"name": "api", "resources": SMALL}]}}}
    kubectl("patch", "deployment", RELEASE, "-p", json.dumps({"spec": spec}))
    kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=400s", timeout=420)
    wait_for(lambda: len(pods()) == 4 and all(map(is_ready, pods())), "four replicas are ready", 300)
    done = dag("alert_drill", DRILL)
    assert api.xcom("alert_drill", done.run_id, "judge")["verdict"] == "ALERT_RECEIVED"


def test_the_page_about_the_models_life(api: AirflowApi) -> None:
    """The plugin of the image, with figures of the cluster's Prometheus; not for somebody without a login."""
    assert httpx.get(f"{api.address}/lifecycle/", trust_env=False).status_code == 401
    page = api._client.get("/lifecycle/").text
    assert "fraud 2 (" in page
    assert page.count("restored and compared") == 2
    assert "no run" not in page


def test_a_log_can_be_read_when_its_pod_is_gone(api: AirflowApi) -> None:
    """Remote logging: the workers of the first DAG are long gone."""
    last = api.runs("ingest_transactions")[0]
    task = next(
        one for one in api.task_instances("ingest_transactions", last["dag_run_id"]) if one["task_id"] == "ingest"
    )
    assert any("days" in line for line in api.log("ingest_transactions", last["dag_run_id"], task))


def test_no_pod_is_outside_restricted_pod_security(watched: StepPods) -> None:
    """Both namespaces refuse anything else, and the steps did run as pods of theirs."""
    for name in installation.NAMESPACES:
        space = json.loads(run("kubectl", "get", "namespace", name, "-o", "json"))
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        privileged = ("root", "--image=redis:7-alpine", "--privileged", "--dry-run=server")
        refused = run("kubectl", "-n", name, "run", *privileged, check=False)
        assert "created" not in refused
    rooms = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in watched.seen.values()}
    assert rooms >= {"fraud", "serving", "backup", "alerting", "loadtest"}
    assert len(watched.seen) >= 20


def test_accounts_may_what_the_page_says(platform: Platform) -> None:
    """Of those that may anything: Airflow's start pods, here and in mlops; the steps' account may nothing."""
    can = lambda who, what, where: run(  # noqa: E731
        "kubectl", "auth", "can-i", *what.split(), "-n", where, f"--as=system:serviceaccount:{who}", check=False
    ).strip()
    for account in ("airflow:airflow-worker", "airflow:airflow-triggerer"):
        assert can(account, "create pods", "mlops") == "yes"
        assert can(account, "get secrets", "mlops") == "no"
        assert can(account, "get secrets", "airflow") == "no"
    assert can("airflow:airflow-scheduler", "create pods", "airflow") == "yes"
    assert can("airflow:airflow-scheduler", "create pods", "mlops") == "no"
    for account in ("mlops:mlops-steps", "mlops:model-api"):
        for what in ("get pods", "create pods", "get secrets", "list configmaps"):
            assert can(account, what, "mlops") == "no"
    assert can("mlops:model-api-rollout", "patch deployments/model-api", "mlops") == "yes"
    assert can("mlops:model-api-rollout", "patch deployments/postgres", "mlops") == "no"
