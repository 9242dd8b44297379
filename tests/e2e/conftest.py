"""One installation of the service for all tests here: MLflow with four versions, the chart, a client in a pod."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from mlflow import MlflowClient

from include.code_version import ROOT, code_version
from include.fraud import event_log
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.protocol import Fold
from include.fraud.simulator import Simulator
from include.model_package import FOLDER, MANIFEST, MODEL, SNAPSHOT, read_manifest, write_manifest, write_snapshot
from include.serving import load_features
from include.serving.snapshot import Snapshot
from include.settings import settings
from tests.e2e import cluster
from tests.e2e.client_pod import pod, sending
from tests.e2e.cluster import NAMESPACE, RELEASE, apply, is_ready, kubectl, pods, port_forward, run, wait_for
from tests.integration.serving.conftest import make_package

FOLD, AS_OF = Fold(date(2025, 6, 1)), date(2025, 6, 29)
GOOD, BETTER, BROKEN, WRONG = "1", "2", "3", "4"  # versions: what is wrong with them is in `versions_in_mlflow`
SUMMARY = ROOT / "build" / "e2e" / "summary.json"
VALUES = {
    "model": {"version": GOOD, "waitSeconds": 30},
    "api": {"minReadySeconds": 3, "progressDeadlineSeconds": 120},
    # Five quiet minutes before shrinking are right for a service, and too long for a test.
    "autoscaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 30, "selectPolicy": "Max", "policies": [
        {"type": "Pods", "value": 2, "periodSeconds": 15}]}}},
    "networkPolicy": {"mlflow": {"ports": [5000]}},
}  # fmt: skip


@pytest.fixture(scope="session")
def facts() -> Iterator[dict[str, Any]]:
    """Figures of the run, written to build/e2e/summary.json."""
    before = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    # The tests of the whole platform run on their own, before the others.
    found: dict[str, Any] = before if before.get("commit") == code_version() else {"commit": code_version()}
    yield found
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(found, indent=2, default=str) + "\n")


@pytest.fixture(scope="session")
def images(facts: dict[str, Any]) -> dict[str, str]:
    missing = cluster.tools_missing()
    assert not missing, f"install {', '.join(missing)} and put them on PATH"
    facts["image_sizes"] = cluster.build_images()
    for name in ("redis:7-alpine", "ghcr.io/mlflow/mlflow:v3.17.2", "alpine:3.24.2"):
        cluster.load_image(name)
    return {"tag": code_version()}


@pytest.fixture(scope="session")
def namespace(images: dict[str, str]) -> Iterator[str]:
    """Empty, and at the restricted Pod Security level."""
    run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")
    run("kubectl", "create", "namespace", NAMESPACE)
    run("kubectl", "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield NAMESPACE
    if not os.environ.get("E2E_KEEP"):
        run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    fill(Lake(str(folder)), Simulator(7, customers=300, terminals=600), date(2025, 4, 20), AS_OF + timedelta(days=3))
    return folder


@pytest.fixture(scope="session")
def versions_in_mlflow(namespace: str, lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 and 2 are good; the model of 3 cannot be loaded; 4 knows wrong histories, so it answers wrongly."""
    apply((ROOT / "tests" / "e2e" / "manifests" / "mlflow.yaml").read_text())
    kubectl("rollout", "status", "deployment/mlflow", "--timeout=300s", timeout=320)
    folder = tmp_path_factory.mktemp("versions")
    good = make_package(lake, FOLD, AS_OF, _new(folder / GOOD), GOOD)
    packages = {GOOD: good, BETTER: make_package(lake, FOLD, AS_OF, _new(folder / BETTER), BETTER, trees=30)}
    packages[BROKEN] = Path(shutil.copytree(good, folder / BROKEN))
    (packages[BROKEN] / MODEL).write_bytes(b"no model")
    digest = sha256(b"no model").hexdigest()
    write_manifest(packages[BROKEN], msgspec.structs.replace(read_manifest(good), onnx_sha256=digest))
    packages[WRONG] = Path(shutil.copytree(good, folder / WRONG))
    _swap_golden_histories(packages[WRONG] / SNAPSHOT, len(read_manifest(good).golden))
    with port_forward("service/mlflow", 5000) as port:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        experiment = client.create_experiment("e2e")
        client.create_registered_model(settings().model_name)
        for version, package in sorted(packages.items()):
            _register(client, experiment, package, version)
    return folder


@pytest.fixture(scope="session")
def service(versions_in_mlflow: Path, lake: Path, facts: dict[str, Any]) -> str:
    """The chart with version 1, and the features of all customers and terminals in its Redis."""
    values = json.dumps({**VALUES, "image": {"tag": code_version()}})
    run("helm", "upgrade", "--install", RELEASE, "deploy/charts/model-api", "-n", NAMESPACE, "--values", "-",
        "--wait", "--timeout", "6m", stdin=values, timeout=400)  # fmt: skip
    apply(json.dumps({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mlops-settings"},
        "data": {"MLOPS_MLFLOW_TRACKING_URI": "http://mlflow:5000", "MLOPS_MODEL_NAME": settings().model_name},
    }))  # fmt: skip
    load_into_redis(lake)
    wait_for(lambda: len(pods()) == 4 and all(map(is_ready, pods())), "four replicas are ready")
    return f"http://{RELEASE}"


def redis_password() -> str:
    import base64

    reference = cluster.get("statefulset", f"{RELEASE}-redis")["spec"]["template"]["spec"]
    names = [
        env["valueFrom"]["secretKeyRef"]
        for container in [*reference.get("initContainers", []), *reference["containers"]]
        for env in container.get("env", [])
        if "valueFrom" in env
    ]
    secret = cluster.get("secret", names[0]["name"])
    return base64.b64decode(secret["data"][names[0]["key"]]).decode()


def load_into_redis(lake: Path) -> None:
    """As the step load_features does in its pod."""
    with pytest.MonkeyPatch.context() as patch, port_forward(f"pod/{RELEASE}-redis-0", 6379) as port:
        patch.setenv("MLOPS_LAKE_URI", str(lake))
        settings.cache_clear()
        store = redis.Redis(port=port, password=redis_password(), socket_timeout=60)
        load_features.load(store, event_log.histories(AS_OF, AS_OF), AS_OF)
    settings.cache_clear()


@pytest.fixture(scope="session")
def requests(lake: Path) -> list[dict[str, object]]:
    """Transactions of the days after those that the features know."""
    source = Simulator(7, customers=300, terminals=600)
    rows = [row for n in (1, 2, 3) for row in source.transactions(AS_OF + timedelta(days=n)).iter_rows(named=True)]
    return [{**row, "tx_datetime": row["tx_datetime"].isoformat()} for row in rows]


@pytest.fixture
def client(service: str, requests: list[dict[str, object]]) -> Callable[..., Any]:
    """`with client(per_second=80) as done:` sends until the block ends; `done` then holds what became of it all."""
    return partial(sending, service, requests)


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow whose steps are pods of the cluster."""
    home = tmp_path_factory.mktemp("airflow")
    extra = {"kube_config_path": os.environ["KUBECONFIG"], "xcom_sidecar_container_image": "alpine:3.24.2"}
    # With KUBECONFIG set as well, the trigger of a deferred pod has two configurations, and refuses both.
    others = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return others | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": extra}),
        "PYTHONPATH": str(ROOT),
        "MLOPS_RUNTIME": "kubernetes",
        "MLOPS_NAMESPACE": NAMESPACE,
    }


def pod_with(labels: dict[str, str], name: str, command: list[str]) -> dict[str, Any]:
    """A pod of the API's image that runs one command."""
    return pod(name, "api", command, labels)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _swap_golden_histories(snapshot: Path, golden: int) -> None:
    """Every golden customer gets nobody's history."""
    held = Snapshot(snapshot)
    terminals = [(-1 - n, held.history("terminal", -1 - n) or b"") for n in range(golden)]
    held.close()
    write_snapshot(snapshot, {"customer": [], "terminal": [(n, b) for n, b in terminals if n % 2]})


def _register(client: MlflowClient, experiment: str, package: Path, version: str) -> None:
    run = client.create_run(experiment, run_name=version)
    client.log_artifact(run.info.run_id, str(package / MODEL), "model")
    manifest = msgspec.structs.replace(read_manifest(package), run_id=run.info.run_id, name="", version="")
    write_manifest(package, manifest)
    for file in (MANIFEST, SNAPSHOT):
        client.log_artifact(run.info.run_id, str(package / file), FOLDER)
    source = f"{run.info.artifact_uri}/model"
    made = client.create_model_version(settings().model_name, source=source, run_id=run.info.run_id)
    assert str(made.version) == version
