"""docker-compose.yaml brought up for real, and the six DAGs in it, over Airflow's REST API.

    E2E_COMPOSE=1 python -m pytest --timeout 1800 tests/e2e/compose

E2E_COMPOSE_FILE   another compose file on top, such as workshop.yaml beside this one
E2E_KEEP           leave the stack up for a look; `docker compose -p mlops-dags-test down --volumes` removes it
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from include.code_version import ROOT, code_version
from include.fraud.examples import requests_of
from include.fraud.form import RetrainForm
from include.fraud.plan import plan
from include.local.airflow_api import AirflowApi, AirflowApiError
from include.local.approval import RESTORE, approve_the_next_restore
from include.local.dag_runs import DagRun, run_dag, wait_until_parsed
from include.local.demo_drill import QUIET, SHORT_STAGES, timeline
from include.local.demo_redeploy import REDEPLOY, RedeployDemo, follow_rollout
from include.local.state import any_free_port
from include.local.traffic import Traffic

PROJECT = "mlops-dags-test"
PORTS = ("AIRFLOW", "MLFLOW", "MODEL_API", "PROMETHEUS", "ALERTMANAGER", "GRAFANA", "INBOX")
SUMMARY = ROOT / "build" / "e2e" / "compose.json"
AS_OF = date(2025, 6, 29)
# Shorter windows and two candidates: whether they run is asked, not how good they are.
FORM = {
    "as_of": str(AS_OF),
    "train_days": 3,
    "test_days": 3,
    "candidates": ["logistic_regression", "decision_tree"],
    "rule": "not_worse",
}
UP_SECONDS = 1200
LINES = Console(force_terminal=False)


# Whoever asks for it gets a failure, not a skip, where docker compose does not work.
pytestmark = [
    pytest.mark.skipif(
        os.environ.get("E2E_COMPOSE") != "1",
        reason="E2E_COMPOSE is not 1: docker compose would start nineteen containers",
    ),
    pytest.mark.timeout(1800),
]


@dataclass
class Stack:
    """The stack while it is up."""

    env: dict[str, str]
    ports: dict[str, int]
    facts: dict[str, Any]

    def compose(self, *words: str, check: bool = True) -> str:
        """Standard output of `docker compose`; AssertionError with all it said when it fails."""
        files = ["docker-compose.yaml", *filter(None, [os.environ.get("E2E_COMPOSE_FILE")])]
        command = ["docker", "compose", "-p", PROJECT, *(word for file in files for word in ("-f", file)), *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        said = f"docker compose {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not check or done.returncode == 0, said
        return done.stdout

    def address(self, name: str) -> str:
        """Of a published port, by its name in .env.example."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def airflow(self) -> AirflowApi:
        password = (ROOT / "deploy" / "compose" / "secrets" / "airflow-admin-password").read_text()
        return AirflowApi(self.address("AIRFLOW"), ("admin", password))

    def sql(self, database: str, statement: str) -> str:
        """As the superuser, within the container."""
        psql = ["psql", "-U", "postgres", "-d", database, "--no-psqlrc", "-Atc", statement]
        return self.compose("exec", "-T", "postgres", *psql).strip()

    def run(self, dag_id: str, conf: dict[str, Any]) -> DagRun:
        """One run of the DAG, which must succeed."""
        api = self.airflow()
        wait_until_parsed(api, dag_id, LINES)
        return self.note(run_dag(api, dag_id, conf, LINES))

    def note(self, run: DagRun) -> DagRun:
        self.facts["dags"][run.dag_id] = {"state": run.state, "seconds": round(run.seconds, 1)}
        assert run.state == "success", f"{run.title}: {run.state}"
        return run


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Built, up and healthy; afterwards nothing of it is left."""
    subprocess.run([ROOT / "deploy" / "compose" / "make-secrets"], check=True)
    ports: dict[str, int] = {}
    for name in PORTS:
        ports[name] = any_free_port(taken=ports.values())
    env = {**os.environ, "COMMIT": code_version(), **{f"{name}_PORT": str(port) for name, port in ports.items()}}
    up = Stack(env, ports, {"commit": code_version(), "dags": {}})
    try:
        began = time.monotonic()
        up.compose("build")
        built = time.monotonic()
        try:
            up.compose("up", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{up.compose('logs', '--tail', '30', check=False)}") from None
        up.facts |= {"build_seconds": round(built - began), "healthy_seconds": round(time.monotonic() - built)}
        yield up
    finally:
        SUMMARY.parent.mkdir(parents=True, exist_ok=True)
        SUMMARY.write_text(json.dumps(up.facts, indent=2, default=str) + "\n")
        if not os.environ.get("E2E_KEEP"):
            up.compose("down", "--volumes", "--timeout", "30", check=False)


@pytest.fixture(scope="module")
def served(stack: Stack) -> str:
    """Three DAGs: history in, a first model, and its rollout, which the promotion starts by itself. Its version."""
    fields = {name: FORM[name] for name in ("train_days", "test_days")}
    first = plan(AS_OF, RetrainForm(**fields)).first_read
    stack.run("ingest_transactions", {"first": str(first), "last": str(AS_OF)})
    api = stack.airflow()
    wait_until_parsed(api, REDEPLOY, LINES)
    api.unpause(REDEPLOY)
    service = stack.address("MODEL_API")
    # A rollout needs requests to be judged by; two cores that also train have more to do than to answer many.
    traffic = Traffic(service, requests_of(AS_OF + timedelta(days=1)), per_second=15)
    traffic.start()
    try:
        retrain = stack.run("retrain_model", FORM)
        promoted = api.xcom("retrain_model", retrain.run_id, "promote")
        assert promoted, "the first model has nobody to lose to"
        rollout = RedeployDemo(earlier=set())
        good = follow_rollout(rollout, api, service, promoted["version"], LINES)
    finally:
        sent = traffic.stop()
    stack.note(rollout.runs[0])
    assert good, rollout.verdicts
    stack.facts["client"] = {"requests": sent.requests, "failed": sent.failed, "p99_ms": sent.percentile(0.99) * 1000}
    assert sent.requests > 100
    assert not sent.failed, sent.failures
    return str(promoted["version"])


def test_everything_is_healthy_and_nobody_is_root(stack: Stack) -> None:
    containers = [json.loads(line) for line in stack.compose("ps", "--all", "--format", "json").splitlines()]
    running = {one["Service"]: one["Health"] for one in containers if one["State"] == "running"}
    ended = {one["Service"]: one["ExitCode"] for one in containers if one["State"] == "exited"}
    assert set(running.values()) == {"healthy"}, running
    assert ended == {"topics": 0, "monitoring-files": 0, "airflow-migrate": 0}
    for service in running:
        assert stack.compose("exec", "-T", service, "id", "-u").strip() != "0", service
    inspect = ["docker", "inspect", *(one["ID"] for one in containers)]
    told = subprocess.run(inspect, env=stack.env, capture_output=True, text=True, check=True).stdout
    for file in (ROOT / "deploy" / "compose" / "secrets").iterdir():
        assert file.read_text().strip() not in told, f"{file.name} is in the configuration of a container"


def test_airflow_asks_for_a_password(stack: Stack) -> None:
    with pytest.raises(AirflowApiError, match="401"):
        AirflowApi(stack.address("AIRFLOW"), ("admin", "admin"))
    assert httpx.get(f"{stack.address('AIRFLOW')}/api/v2/dags", trust_env=False).status_code == 401


def test_a_model_is_trained_rolled_out_and_watched(stack: Stack, served: str) -> None:
    assert httpx.get(stack.address("MODEL_API"), trust_env=False).json()["version"] == served
    answer = httpx.get(
        f"{stack.address('PROMETHEUS')}/api/v1/query", params={"query": "model_api:replicas_ready"}, trust_env=False
    )
    [found] = answer.json()["data"]["result"]
    assert 4 <= float(found["value"][1]) <= 6


def test_a_lost_table_comes_back(stack: Stack, served: str) -> None:
    stack.run("backup_databases", {})
    before = stack.sql("mlflow", "SELECT count(*) FROM metrics")
    stack.sql("mlflow", "DROP TABLE metrics")
    said = approve_the_next_restore(stack.airflow())
    stack.run(RESTORE, {"database": "mlflow", "backup": "latest", "approve": True})
    assert said, "nobody was asked"
    assert int(before) > 0
    assert stack.sql("mlflow", "SELECT count(*) FROM metrics") == before


def test_the_admin_is_paged(stack: Stack, served: str) -> None:
    run = stack.run("alert_drill", QUIET | SHORT_STAGES)
    judged = stack.airflow().xcom("alert_drill", run.run_id, "judge") or {}
    LINES.print(timeline(judged))
    stack.facts["drill"] = {"verdict": judged.get("verdict"), "said": judged.get("said")}
    assert judged.get("verdict") == "ALERT_RECEIVED"
    mails = httpx.get(f"{stack.address('INBOX')}/messages", trust_env=False).json()
    assert any("[DRILL]" in mail["subject"] for mail in mails if mail["channel"] == "mail")
