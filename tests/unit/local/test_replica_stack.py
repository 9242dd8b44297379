"""The model API in the local stack."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from include.local import stack
from include.local.model_api import deployment_folder, model_api
from include.local.state import DEFAULT_PORTS, State, any_free_port
from include.local.supervisor import Supervisor


@pytest.fixture
def described(tmp_path):
    def describe():
        return {p.name: p for p in stack.processes(State(tmp_path), DEFAULT_PORTS, Path("dags"))}

    return describe


def test_tasks_know_where_the_service_and_its_store_are(described, monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_REDIS_URL", "redis://elsewhere:6379/0")
    monkeypatch.setenv("MLOPS_REDIS_PASSWORD", "of elsewhere")
    env = described()["airflow"].env
    assert env["MLOPS_REDIS_URL"] == described()["redis"].address == "redis://127.0.0.1:6379/0"
    assert env["MLOPS_REDIS_PASSWORD"] == ""
    assert env["MLOPS_MODEL_API_URL"] == described()["model-api"].address == "http://127.0.0.1:8000"
    assert env["MLOPS_LOCAL_DEPLOYMENT"] == str(deployment_folder(State(tmp_path)))


def test_the_service_gets_the_settings_that_concern_it(described, monkeypatch):
    monkeypatch.setenv("MLOPS_MODEL_NAME", "churn")
    monkeypatch.setenv("MLOPS_SOURCE", "/data/*.parquet")
    env = described()["model-api"].env
    assert env["MLOPS_MODEL_NAME"] == "churn"
    assert env["MLOPS_MLFLOW_TRACKING_URI"] == described()["mlflow"].address
    assert "MLOPS_SOURCE" not in env, "another source must not interrupt the service"


def test_a_stack_that_was_started_before_there_was_a_service_is_described(tmp_path):
    chosen_then = {"airflow": 8081, "mlflow": 5000, "airflow-worker-logs": 8793, "airflow-trigger-logs": 8794}
    addresses = {p.name: p.address for p in stack.processes(State(tmp_path), chosen_then, Path("dags"))}
    assert addresses["airflow"] == "http://127.0.0.1:8081"
    assert addresses["redis"] == "redis://127.0.0.1:6379/0"


def test_ready_without_any_version_and_not_after_it_ended(tmp_path):
    state = State(tmp_path)
    supervisor = Supervisor(state, say=print)
    process = model_api(state, any_free_port(taken=()), {})
    status = deployment_folder(state) / "status.json"
    try:
        supervisor.start([process], {**os.environ, "PYTHONUNBUFFERED": "1"})
        assert json.loads(status.read_text())["desired"] == 0
        first = status.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while status.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline, "the status is not written again while nothing changes"
            time.sleep(0.1)
        os.utime(status, (0, 0))
        supervisor.stop("model-api")
        assert status.stat().st_mtime > 0, "the last word"
        assert not process.ready(), "fresh, but nobody listens"
    finally:
        supervisor.stop_all()


def test_a_status_that_grows_old_is_not_ready(tmp_path):
    state = State(tmp_path)
    supervisor = Supervisor(state, say=print)
    process = model_api(state, any_free_port(taken=()), {})
    try:
        supervisor.start([process], {**os.environ})
        leader = supervisor.running()["model-api"].leader.pid
        os.kill(leader, signal.SIGSTOP)
        try:
            status = deployment_folder(state) / "status.json"
            os.utime(status, (time.time() - 11, time.time() - 11))
            assert not process.ready(), "it listens, but does not work"
        finally:
            os.kill(leader, signal.SIGCONT)
    finally:
        supervisor.stop_all()
