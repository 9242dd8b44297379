"""Backup and restore on a real cluster: pods with small limits, a claim, a database larger than the memory limit."""

import base64
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.code_version import ROOT, code_version
from include.local.postgres_server import READER
from include.pipeline.profiles import PROFILES
from tests.e2e import cluster
from tests.e2e.cluster import NAMESPACE, apply, get, kubectl, wait_for
from tests.e2e.drill_platform import manifests
from tests.e2e.step_pods import StepPods

MANIFESTS = ROOT / "tests" / "e2e" / "manifests"
DATABASE, OWNER = "shop", "shopkeeper"
PUSHGATEWAY = "prom/pushgateway:v1.5.1"
ROWS = 62_000  # of 9,600 characters, stored as they are: more than the pod's memory limit
SCHEMA = f"""
CREATE ROLE {OWNER} LOGIN PASSWORD '%(owner)s';
CREATE ROLE {READER} LOGIN BYPASSRLS PASSWORD '%(reader)s' IN ROLE pg_read_all_data;
CREATE ROLE restorer LOGIN CREATEDB PASSWORD '%(restorer)s' IN ROLE {OWNER}, pg_signal_backend;
CREATE DATABASE {DATABASE} OWNER {OWNER};
"""
CONTENTS = f"""
CREATE TABLE receipts (id integer PRIMARY KEY, body text NOT NULL);
ALTER TABLE receipts ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO receipts SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, {ROWS}) AS i;
CREATE TABLE customers (id serial PRIMARY KEY, name text);
INSERT INTO customers (name) SELECT 'customer ' || i FROM generate_series(1, 500) AS i;
"""


@dataclass
class Looked:
    """What else was seen of the backups' pods."""

    commands: set[str] = field(default_factory=set)
    killed_for_memory: list[str] = field(default_factory=list)

    def at(self, pod: Any) -> None:
        name = pod["metadata"]["name"]
        for status in pod["status"].get("containerStatuses", []):
            if (status["state"].get("terminated") or {}).get("reason") == "OOMKilled":
                self.killed_for_memory.append(name)
        if pod["status"]["phase"] == "Running":
            show = "cat /proc/[0-9]*/cmdline | tr '\\000' ' '; echo; ls /proc | grep -c '^[0-9]'"
            self.commands.add(kubectl("exec", name, "-c", "base", "--", "sh", "-c", show, check=False))


@pytest.fixture(scope="module")
def passwords() -> dict[str, str]:
    """With what shells, URLs and SQL make something of, but a single quote: the test itself writes SQL with them."""
    odd = 'p@ss:/?#&%x$(id)`"\\'
    return {name: f"{odd} {secrets.token_hex(8)}" for name in ("admin", "owner", "reader", "restorer")}


@pytest.fixture(scope="module")
def database(namespace: str, passwords: dict[str, str]) -> Iterator[str]:
    """PostgreSQL, its roles, the claim, the Secrets and what the steps must know."""
    for image in ("postgres:15", PUSHGATEWAY, "alpine:3.24.2"):
        cluster.load_image(image)
    services = {"backup-databases": (READER, "reader"), "restore-databases": ("restorer", "restorer")}
    for name, (role, whose) in services.items():
        section = f"[{DATABASE}]\nhost=postgres\nuser={role}\npassword={passwords[whose]}\ndbname={DATABASE}\n"
        _secret(name, {"pg_service.conf": section})
    _secret("postgres", {"password": passwords["admin"]})
    settings = {"MLOPS_BACKUP_URI": "/backups", "MLOPS_PUSHGATEWAY_URL": "http://pushgateway:9091"}
    present = json.loads(kubectl("get", "configmap", "mlops-settings", "--ignore-not-found", "-o", "json") or "{}")
    data = {**present.get("data", {}), **settings}
    apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mlops-settings"}, "data": data}))
    apply((ROOT / "deploy" / "storage" / "backup-pvc.yaml").read_text())
    apply((MANIFESTS / "drill" / "steps.yaml").read_text())
    apply(_pushgateway())
    apply((MANIFESTS / "backup" / "postgres.yaml").read_text())
    kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s", timeout=200)
    _psql("postgres", SCHEMA % passwords)
    _psql(DATABASE, f"SET ROLE {OWNER};" + CONTENTS)
    yield DATABASE
    kubectl("delete", "statefulset/postgres", "service/postgres", "pvc/backup-pvc", "--wait=false")


@pytest.fixture(scope="module")
def airflow(airflow_home: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An Airflow of its own, whose database is read afterwards."""
    home = {
        **airflow_home,
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow-backup")),
        "MLOPS_BACKUP_DATABASES": json.dumps([DATABASE]),
        "MLOPS_BACKUP_URI": "/backups",
        "MLOPS_CODE_VERSION": code_version(),  # what the images hold, whatever is committed meanwhile
    }
    migrated = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=home, capture_output=True, text=True, timeout=300
    )
    assert migrated.returncode == 0, migrated.stderr
    return home


@pytest.fixture(scope="module")
def backed_up(database: str, airflow: dict[str, str], facts: dict[str, Any]) -> dict[str, Any]:
    """Two runs of the DAG, so that `latest` and another one differ."""
    size = int(_psql(database, f"SELECT pg_database_size('{database}')"))
    looked = Looked()
    with StepPods("app.kubernetes.io/component=backup", looked.at) as pods:
        runs = [_dag(airflow, "backup_databases")]
        _psql(database, "UPDATE customers SET name = 'changed' WHERE id = 7")
        runs.append(_dag(airflow, "backup_databases"))
    facts["backup"] = {"database_mb": round(size / 1e6), "seconds": [round(run["seconds"]) for run in runs]}
    return {"size": size, "runs": runs, "pods": pods.seen, "looked": looked}


def test_a_database_larger_than_the_memory_limit(backed_up: dict[str, Any]) -> None:
    limit = int(PROFILES["backup"].memory_limit.removesuffix("Mi")) * 1024**2
    assert backed_up["size"] > limit
    assert [run["code"] for run in backed_up["runs"]] == [0, 0], backed_up["runs"][0]["said"][-6000:]
    assert backed_up["looked"].killed_for_memory == []


def test_what_lies_on_the_claim(backed_up: dict[str, Any], facts: dict[str, Any]) -> None:
    """Both are whole and verified, and nothing is left of the making."""
    listed = _on_the_claim("ls -l /backups/shop; cat /backups/shop/*.verified.json | grep -c stem; "
                           "for file in /backups/shop/*.gz; do gzip -t $file && echo readable; done")  # fmt: skip
    facts["backup"]["claim"] = listed
    assert listed.count("readable") == 2
    assert re.search(r"^2$", listed, re.MULTILINE)
    assert "partial" not in listed


def test_the_pods_are_locked_down(backed_up: dict[str, Any]) -> None:
    """The namespace refuses anything else; this says so of those that ran."""
    pods = backed_up["pods"]
    assert len(pods) >= 4
    for pod in pods.values():
        base = next(one for one in pod["spec"]["containers"] if one["name"] == "base")
        assert base["securityContext"]["readOnlyRootFilesystem"] is True
        assert base["securityContext"]["runAsNonRoot"] is True
        assert base["resources"]["limits"]["memory"] == "512Mi"


def test_the_latest_comes_back(backed_up: dict[str, Any], airflow: dict[str, str], facts: dict[str, Any]) -> None:
    _psql(DATABASE, "DROP TABLE customers")
    done = _dag(airflow, "restore_database", {"database": DATABASE, "backup": "latest", "approve": False})
    facts["backup"]["restore_seconds"] = round(done["seconds"])
    backed_up["runs"].append(done)
    assert done["code"] == 0, done["said"][-6000:]
    assert _psql(DATABASE, "SELECT count(*), max(name) FILTER (WHERE id = 7) FROM customers") == "500|changed"
    assert _psql(DATABASE, "SELECT count(*) FROM receipts") == str(ROWS)


def test_a_named_one_under_a_new_name(backed_up: dict[str, Any], airflow: dict[str, str]) -> None:
    first = min(re.findall(r"\d{6}-\d{8}T\d{6}Z", _on_the_claim("ls /backups/shop")))
    form = {"database": DATABASE, "backup": first, "target": "shop_before", "approve": False}
    done = _dag(airflow, "restore_database", form)
    backed_up["runs"].append(done)
    assert done["code"] == 0, done["said"][-6000:]
    assert _psql("shop_before", "SELECT name FROM customers WHERE id = 7") == "customer 7"
    assert _psql(DATABASE, "SELECT name FROM customers WHERE id = 7") == "changed"


def test_the_password_is_nowhere(backed_up: dict[str, Any], passwords: dict[str, str], airflow: dict[str, str]) -> None:
    """Not in a log, a manifest, a process list, an XCom or a rendered template. Its last part has no odd characters."""
    places = {
        "logs": "".join(run["said"] for run in backed_up["runs"]),
        "process lists": "\n".join(backed_up["looked"].commands),
        "pods": json.dumps(backed_up["pods"]),
        "the claim": _on_the_claim("cat /backups/shop/*.json"),
    }
    for file in Path(airflow["AIRFLOW_HOME"]).rglob("*"):
        if file.is_file():
            places[str(file)] = file.read_bytes().decode("utf-8", "replace")
    assert "pg_dump" in places["process lists"], "nobody looked while it ran"
    assert any(name.endswith("airflow.db") for name in places)
    for name, password in passwords.items():
        for place, text in places.items():
            assert password.rsplit(" ", 1)[1] not in text, f"the password of {name} is in {place}"


def _dag(environment: dict[str, str], dag: str, conf: dict[str, Any] | None = None) -> dict[str, Any]:
    """One run, its steps as pods."""
    began = time.monotonic()
    command = [sys.executable, "-m", "airflow", "dags", "test", dag, *(["-c", json.dumps(conf)] if conf else [])]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500)
    return {"code": done.returncode, "said": done.stdout + done.stderr, "seconds": time.monotonic() - began}


def _psql(database: str, statements: str) -> str:
    """As the superuser, inside the server's pod."""
    command = ("exec", "-i", "postgres-0", "--", "psql", "-U", "admin", "-d", database, "-v", "ON_ERROR_STOP=1", "-qAt")
    return kubectl(*command, stdin=statements).strip()


def _secret(name: str, data: dict[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    apply(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}))


def _pushgateway() -> str:
    """That of the drill."""
    found = [one for one in yaml.safe_load_all(manifests()) if one and one["metadata"]["name"] == "pushgateway"]
    return "\n---\n".join(json.dumps(one) for one in found if one["kind"] in ("Deployment", "Service"))


def _on_the_claim(command: str) -> str:
    """What a shell says that sees the claim."""
    name = f"look-{secrets.token_hex(3)}"
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    spec = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "look", "image": f"mlops-dags/steps:{code_version()}", "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", command], "securityContext": locked,
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "backups", "mountPath": "/backups"}],
        }],
        "volumes": [{"name": "backups", "persistentVolumeClaim": {"claimName": "backup-pvc"}}],
    }  # fmt: skip
    apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
    try:
        wait_for(lambda: get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), f"{name} in {NAMESPACE} ends")
        return kubectl("logs", name)
    finally:
        kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
