"""What the processes of the stack are started with."""

from pathlib import Path

import pytest

from include.local import stack
from include.local.process_group import MARK
from include.local.state import DEFAULT_PORTS, State


@pytest.fixture
def described(tmp_path):
    def describe():
        return {p.name: p for p in stack.processes(State(tmp_path), DEFAULT_PORTS, Path("dags"))}

    return describe


def test_tasks_see_this_stack_and_the_callers_settings(described, monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_SOURCE", "/data/*.parquet")
    monkeypatch.setenv("MLOPS_MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    env = described()["airflow"].env
    assert env["MLOPS_SOURCE"] == "/data/*.parquet"
    assert env["MLOPS_MLFLOW_TRACKING_URI"] == described()["mlflow"].address
    assert env["MLOPS_LAKE_URI"] == str(tmp_path / "lake")
    assert env["MLOPS_RUNTIME"] == "local"


def test_another_source_needs_a_new_start_of_airflow_and_of_who_restarts_it(described, monkeypatch):
    monkeypatch.delenv("MLOPS_SOURCE", raising=False)
    before = {name: process.fingerprint() for name, process in described().items()}
    monkeypatch.setenv("MLOPS_STATE", "named/in/another/way")
    assert {name: process.fingerprint() for name, process in described().items()} == before
    monkeypatch.setenv("MLOPS_SOURCE", "/data/*.parquet")
    after = {name: process.fingerprint() for name, process in described().items()}
    assert {name for name in before if before[name] != after[name]} == {"airflow", "keeper"}


def test_settings_of_another_airflow_do_not_leak_in(monkeypatch):
    for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR", "MLFLOW_TRACKING_URI", "PYTHONPATH", MARK):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("HTTPS_PROXY", "kept")
    env = stack.inherited_environment()
    assert "theirs" not in env.values()
    assert env["HTTPS_PROXY"] == "kept"


def test_tasks_know_the_servers_of_this_stack(described, monkeypatch):
    monkeypatch.setenv("MLOPS_KAFKA_BOOTSTRAP", "elsewhere:9092")
    monkeypatch.setenv("MLOPS_ATTACK_BROKERS", "elsewhere:9092")
    processes = described()
    env = processes["airflow"].env
    assert env["MLOPS_KAFKA_BOOTSTRAP"] == env["MLOPS_ATTACK_BROKERS"] == processes["kafka"].address
    assert env["MLOPS_TIME_COMPRESSION"] == "15"
    for name in ("prometheus", "alertmanager", "pushgateway", "inbox"):
        assert env[f"MLOPS_{name.upper()}_URL"] == processes[name].address


def test_another_compression_starts_anew_whom_it_concerns(described, monkeypatch):
    before = {name: process.fingerprint() for name, process in described().items()}
    monkeypatch.setenv("MLOPS_TIME_COMPRESSION", "1")
    after = {name: process.fingerprint() for name, process in described().items()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"prometheus", "alertmanager", "model-api", "airflow", "keeper"}


def test_every_process_has_a_port_and_those_it_needs_are_in_the_stack(described):
    processes = described()
    for process in processes.values():
        assert set(process.after) <= set(processes)
    assert list(processes)[-1] == "keeper"
    ports = [process.port for process in processes.values() if process.port]
    assert len(ports) == len(set(ports)) == len(processes) - 1
