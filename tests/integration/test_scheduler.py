"""The pipelines under a real scheduler, triggered over the REST API as the UI does it."""

import html
from datetime import date, timedelta

import pytest
from rich.console import Console

from include.fraud.form import RetrainForm
from include.fraud.plan import plan
from include.local.airflow_api import AirflowApi
from include.local.dag_runs import run_dag, wait_until_parsed

AS_OF = date(2025, 6, 29)
FORM = {
    "as_of": str(AS_OF),
    "train_days": 3,
    "test_days": 3,
    "candidates": ["logistic_regression", "decision_tree"],
    "rule": "not_worse",
}
QUIET = Console(force_terminal=False)


@pytest.fixture(scope="module")
def airflow(airflow_stack: AirflowApi) -> AirflowApi:
    """Both DAGs parsed, the history in the lake."""
    for dag in ("ingest_transactions", "retrain_model"):
        wait_until_parsed(airflow_stack, dag, QUIET)
        airflow_stack.unpause(dag)
    fields = {name: FORM[name] for name in ("train_days", "test_days")}
    first = plan(AS_OF, RetrainForm(**fields)).first_read
    run = run_dag(airflow_stack, "ingest_transactions", {"first": str(first), "last": str(AS_OF)}, QUIET)
    assert run.state == "success"
    return airflow_stack


def states(run) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for task in run.tasks:
        found.setdefault(task["task_id"], set()).add(task["state"])
    return found


def test_retrain_promotes_then_leaves_alone(airflow):
    run = run_dag(airflow, "retrain_model", FORM, QUIET)
    assert run.state == "success"
    assert set().union(*states(run).values()) == {"success"}
    assert [task["rendered_map_index"] for task in run.tasks if task["task_id"] == "train"] == FORM["candidates"]
    [event] = airflow.asset_events("fraud_model")
    assert event["extra"]["name"] == "fraud"
    assert event["extra"]["version"] == "1"
    assert {"run_id", "metrics", "verdict"} <= set(event["extra"])

    again = run_dag(airflow, "retrain_model", FORM, QUIET)
    assert again.state == "success"
    assert states(again)["promote"] == {"skipped"}
    assert len(airflow.asset_events("fraud_model")) == 1, "nothing changed, nothing is announced"


def test_ingestion_announces_its_days(airflow):
    event = airflow.asset_events("transactions")[0]
    assert event["extra"]["last"] >= str(AS_OF)
    assert event["extra"]["rows"] > 0


def test_a_missing_day_fails_the_run_without_a_retry(airflow):
    run = run_dag(airflow, "retrain_model", FORM | {"as_of": str(AS_OF + timedelta(days=30))}, QUIET)
    assert run.state == "failed"
    [dataset] = [task for task in run.tasks if task["task_id"] == "dataset"]
    assert (dataset["state"], dataset["try_number"]) == ("failed", 1)
    assert states(run)["evaluate"] == {"upstream_failed"}
    said = airflow.xcom("retrain_model", run.run_id, "dataset")["error"]
    assert "fill the gap with: python -m include.fraud.ingest" in said


def test_the_page_about_the_models_life(airflow):
    """With the runs of the tests before. Who may see it is for the platform's tests: here everybody is an admin."""
    page = airflow._client.get("/lifecycle/").text
    assert "<h1>Model life</h1>" in page
    runs = [run["dag_run_id"] for run in airflow.runs("retrain_model")]
    assert runs
    assert all(f"/dags/retrain_model/runs/{html.escape(run)}" in page for run in runs)
    assert "no run" in page, "alert_drill never ran"
