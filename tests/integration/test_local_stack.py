"""The local stack as a whole: the scheduler runs the repository's DAGs, tasks see its MLflow and its lake."""

from datetime import date

from rich.console import Console

from include.local.airflow_api import AirflowApi
from include.local.dag_runs import run_dag, wait_until_parsed


def test_ingestion_runs_through_the_scheduler(airflow_stack: AirflowApi):
    assert set(airflow_stack.health().values()) == {"healthy"}
    console = Console(force_terminal=False)
    wait_until_parsed(airflow_stack, "ingest_transactions", console)
    day = str(date(2025, 4, 12))
    run = run_dag(airflow_stack, "ingest_transactions", {"first": day, "last": day}, console)
    assert run.state == "success"
    assert {task["task_id"] for task in run.tasks} == {"ingest", "load_features"}
    answer = airflow_stack.xcom("ingest_transactions", run.run_id, "ingest")
    assert answer, "the step's answer is the task's XCom"


def test_unpausing_starts_nothing_by_itself(airflow_stack: AirflowApi):
    wait_until_parsed(airflow_stack, "retrain_model", Console(force_terminal=False))
    airflow_stack.unpause("retrain_model")
    # The scheduler has gone round many times since: another DAG's run was triggered, run and read.
    run = airflow_stack.trigger("ingest_transactions", {"first": "2025-04-13", "last": "2025-04-13"})
    assert airflow_stack.wait("ingest_transactions", run, within=120) == "success"
    assert [each["dag_run_id"] for each in airflow_stack.runs("retrain_model") if each["run_type"] != "manual"] == []


def test_unknown_dag_is_none_and_unknown_xcom_too(airflow_stack: AirflowApi):
    assert airflow_stack.dag("no_such_dag") is None
    assert airflow_stack.import_errors() == {}
