"""Every DAG through `airflow dags test`, as CI of any user would run it, against a real MLflow and a small lake."""

import subprocess
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from mlflow import MlflowClient

from include.fraud.examples import requests_of
from include.fraud.form import RetrainForm
from include.fraud.lake import Lake, days_between
from include.fraud.plan import plan
from include.fraud.schema import LABELS, TRANSACTIONS
from include.fraud.simulator import Simulator
from include.fraud.windows import HISTORY_DAYS
from include.local.demo_redeploy import live_version
from include.local.traffic import Traffic
from tests.integration.airflow_cli import Airflow

AS_OF = date(2025, 6, 29)
FORM = {"train_days": 3, "test_days": 3, "candidates": ["logistic_regression", "decision_tree"], "rule": "not_worse"}
FIRST = plan(AS_OF, RetrainForm(**FORM)).first_read
NEXT = AS_OF + timedelta(days=7)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A Parquet file of a few hundred transactions a day."""
    simulator = Simulator(7, customers=300, terminals=600)
    days = [
        simulator.transactions(day).join(simulator.labels(day), on="transaction_id")
        for day in days_between(FIRST, NEXT)
    ]
    path = tmp_path_factory.mktemp("source") / "transactions.parquet"
    pl.concat(days).select(*TRANSACTIONS, *(name for name in LABELS if name not in TRANSACTIONS)).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, mlflow_server, feature_store, source) -> Airflow:
    home = tmp_path_factory.mktemp("airflow")
    env = {
        "MLOPS_LAKE_URI": str(home / "lake"),
        "MLOPS_SOURCE": str(source),
        "MLOPS_MLFLOW_TRACKING_URI": mlflow_server,
        "MLOPS_MLFLOW_EXPERIMENT": "dag-runs",
        "MLOPS_MODEL_NAME": "dag-runs",
        "MLOPS_REDIS_URL": feature_store,
    }
    airflow = Airflow(home, env, AS_OF + timedelta(days=1))
    done = airflow.test("ingest_transactions", first=str(FIRST), last=str(AS_OF))
    assert done.returncode == 0, done.stdout[-9000:]
    return airflow


@pytest.fixture(scope="module")
def retrained(airflow) -> subprocess.CompletedProcess:
    done = airflow.test("retrain_model", **FORM)
    assert done.returncode == 0, done.stdout[-9000:]
    return done


def lake(airflow) -> Lake:
    return Lake(airflow.env["MLOPS_LAKE_URI"])


def test_ingest_filled_the_lake(airflow):
    assert lake(airflow).days()[0] == FIRST
    assert AS_OF in lake(airflow).days()
    assert (AS_OF - FIRST).days > HISTORY_DAYS


def test_ingest_without_a_form_takes_the_day_before(airflow):
    done = airflow.run("dags", "test", "ingest_transactions", str(NEXT + timedelta(days=1)))
    assert done.returncode == 0, done.stdout[-9000:]
    assert lake(airflow).days()[-1] == NEXT


def test_retrain_promotes_the_first_model(retrained, mlflow_server):
    assert "is the first champion" in retrained.stdout
    champion = MlflowClient(mlflow_server, mlflow_server).get_model_version_by_alias("dag-runs", "champion")
    assert champion.version == "1"
    assert "average precision" in champion.description


def test_retrain_of_the_same_date_changes_nothing(retrained, airflow, mlflow_server):
    again = airflow.test("retrain_model", **FORM)
    assert again.returncode == 0, again.stdout[-3000:]
    assert "is the same model as the champion" in again.stdout
    client = MlflowClient(mlflow_server, mlflow_server)
    assert len(client.search_model_versions("name = 'dag-runs'")) == 1


def test_redeploy_rolls_the_champion_out_and_then_leaves_it_alone(retrained, airflow, local_service):
    airflow.env |= local_service("dag-runs")
    address = airflow.env["MLOPS_MODEL_API_URL"]
    traffic = Traffic(address, requests_of(AS_OF), per_second=20)
    traffic.start()
    try:
        # force: a machine that is busy with other tests may have six replicas already, where a rollout would wait.
        done = airflow.test("redeploy_model", bake_seconds=10, force=True)
        assert done.returncode == 0, done.stdout[-9000:]
        assert "dag-runs version 1 replaced nothing" in done.stdout
        assert live_version(address) == "1"
        again = airflow.test("redeploy_model", bake_seconds=10, force=True)
        assert again.returncode == 0, again.stdout[-3000:]
        assert "is live already: nothing to do" in again.stdout
    finally:
        sent = traffic.stop()
    assert sent.requests > 100
    assert (sent.failed, set(sent.versions)) == (0, {"1"})


@pytest.mark.parametrize(
    ("dag", "conf", "said"),
    [
        ("retrain_model", FORM | {"as_of": "2031-01-05"}, "fill the gap with: python -m include.fraud.ingest"),
        ("retrain_model", FORM | {"gap_days": 2}, "gap_days=2: the windows overlap"),
        ("redeploy_model", {"version": "77"}, "MLflow has no version 77 of 'dag-runs'"),
        ("ingest_transactions", {"first": "2025-06-20", "last": "2025-06-10"}, "--first 2025-06-20 is after --last"),
        ("ingest_transactions", {"first": "2001-01-01", "last": "2001-01-01"}, "2001-01-01"),
    ],
)
def test_bad_input_fails_at_once(airflow, dag, conf, said):
    """No retry: `airflow dags test` would wait for minutes before the second try."""
    before = lake(airflow).days()
    done = airflow.test(dag, **conf)
    assert done.returncode == 1
    assert said in done.stdout
    assert "a retry cannot help" in done.stdout
    assert "up_for_retry" not in done.stdout
    assert lake(airflow).days() == before


def test_a_form_that_cannot_be_is_refused_before_anything_runs(airflow):
    done = airflow.test("retrain_model", candidates=["xgboost"])
    assert done.returncode != 0
    assert "xgboost" in done.stdout + done.stderr
