"""The cluster's content is lost; git, the backups in the bucket and the store of secrets are what is left."""

import json
import time
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from include.code_version import code_version
from include.local.dag_runs import run_dag, wait_until_parsed
from tests.e2e import cluster
from tests.e2e.client_pod import TRANSACTION
from tests.e2e.cluster import RELEASE, apply, is_ready, kubectl, pods, port_forward, wait_for
from tests.e2e.platform import installation
from tests.e2e.platform.conftest import Platform
from tests.e2e.platform.git_server import git_server

OPERATOR = "operator"
CONSOLE = Console(force_terminal=False)


@pytest.fixture(scope="module")
def before(platform: Platform) -> dict[str, Any]:
    """What must be there again. Taken from the last backup's moment: the tests before made a backup after all of it."""
    assert pods(), "nothing runs that could be lost: run this folder as a whole"
    version = cluster.versions()[0]
    with port_forward("service/airflow-api-server", 8080, "airflow") as port:
        api = platform.log_in(port)
        runs = {run["dag_run_id"]: run["conf"] for run in api.runs("ingest_transactions")}
    answer = _predict()
    assert not answer["degraded"], "its features are in Redis"
    return {"runs": runs, "answer": answer, "version": version}


def test_from_nothing_to_a_served_model_and_its_history(
    platform: Platform, before: dict[str, Any], facts: dict[str, Any]
) -> None:
    installation.remove()
    took = facts["platform"]["from nothing, s"] = {}
    began = time.monotonic()

    def done(what: str) -> None:
        took[what] = round(time.monotonic() - began)

    installation.base(platform.store)
    installation.secrets_of(platform.passwords)
    installation.data_stores()
    done("empty data stores")
    _restore("mlflow")
    _restore("airflow")
    done("databases restored")
    installation.service(before["version"])
    wait_for(lambda: len(pods()) >= 4 and all(map(is_ready, pods())), "four replicas are ready", 420)
    assert _predict() == {**before["answer"], "degraded": True}, "the model's own snapshot until features are loaded"
    done("model served")
    with git_server():
        installation.airflow()
        with port_forward("service/airflow-api-server", 8080, "airflow") as port:
            api = platform.log_in(port)
            assert set(before["runs"]) <= {run["dag_run_id"] for run in api.runs("ingest_transactions")}
            wait_until_parsed(api, "ingest_transactions", CONSOLE)
            done("Airflow with its history")
            last = max(conf["last"] for conf in before["runs"].values())
            missed = str(date.fromisoformat(last) + timedelta(days=1))
            ended = run_dag(api, "ingest_transactions", {"first": missed, "last": missed}, CONSOLE)
    assert ended.state == "success"
    assert not _predict()["degraded"], "the features are back"
    done("the day that was missed, and the features")


def _predict() -> Any:
    """Score, version and more of one transaction."""
    with port_forward(f"service/{RELEASE}", 80) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", json=TRANSACTION, trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _restore(database: str) -> None:
    """As the runbook says, in a pod of the steps' image."""
    command = ["python", "-m", "include.backup.restore", "--database", database, "--backup", "latest", "--yes", "true"]
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    apply(json.dumps({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": f"{OPERATOR}-{database}",
                     "labels": {"app.kubernetes.io/name": "mlops-step", "mlops/backs-up": "true"}},
        "spec": {
            "restartPolicy": "Never", "serviceAccountName": "mlops-steps",
            "securityContext": {"runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "databases", "secret": {
                "secretName": "restore-databases", "defaultMode": 0o440}}],
            "containers": [{
                "name": "operator", "image": f"mlops-dags/steps:{code_version()}", "imagePullPolicy": "IfNotPresent",
                "command": command, "securityContext": locked,
                "env": [{"name": "PGSERVICEFILE", "value": "/run/databases/pg_service.conf"},
                        {"name": "HOME", "value": "/tmp"}],
                "envFrom": [{"configMapRef": {"name": "mlops-settings"}}, {"secretRef": {"name": "mlops-secrets"}}],
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"},
                                 {"name": "databases", "mountPath": "/run/databases", "readOnly": True}],
            }],
        },
    }))  # fmt: skip
    phase = lambda: json.loads(kubectl("get", "pod", f"{OPERATOR}-{database}", "-o", "json"))["status"]["phase"]  # noqa: E731
    wait_for(lambda: phase() in ("Succeeded", "Failed"), f"the restore of {database}", 300)
    assert phase() == "Succeeded", kubectl("logs", f"{OPERATOR}-{database}")
