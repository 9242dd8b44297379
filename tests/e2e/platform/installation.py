"""The whole platform on an empty cluster, from this repository, in the order of deploy/README.md.

Stand-ins, as nothing here can pull images: one Kafka broker instead of Strimzi's, Prometheus and Alertmanager without
the operator (tests/e2e/drill_platform.py), moto for object storage, a git daemon for the hosting service.
"""

import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from deploy.secrets import by_hand
from include.code_version import ROOT, code_version
from tests.e2e import cluster
from tests.e2e.cluster import RELEASE, apply, kubectl, run
from tests.e2e.drill_platform import IMAGES, SCORER, SETTINGS, SHORTER, manifests
from tests.e2e.platform import git_server
from tests.e2e.platform.object_store import ObjectStore

NAMESPACES = ("mlops", "airflow")
CHART_VERSION = "1.22.0"
OVERLAY = ROOT / "build" / "e2e" / "overlay"
BASES = ("platform", "postgresql", "mlflow", "inbox")
# The tests have these policies of their own, and the repository's must hold.
OURS = {"default-deny", "name-resolution", "steps", "mlflow", "mlops-steps", "inbox"}
SMALL = {"cpu": "20m", "memory": "256Mi"}  # all of it must fit on two cores
POLICIES = """
# What the tests have elsewhere than an installation: object storage on another port, the monitoring in the namespace.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: object-store, namespace: mlops}}
spec:
  podSelector: {{matchExpressions: [{{key: app.kubernetes.io/name, operator: In, values: [mlops-step, mlflow]}}]}}
  policyTypes: [Egress]
  egress: [{{ports: [{{port: {store}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: backups-to-pushgateway, namespace: mlops}}
spec:
  podSelector: {{matchLabels: {{mlops/backs-up: "true"}}}}
  policyTypes: [Egress]
  egress: [{{to: [{{podSelector: {{matchLabels: {{app.kubernetes.io/name: pushgateway}}}}}}], ports: [{{port: 9091}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: pushgateway-from-backups, namespace: mlops}}
spec:
  podSelector: {{matchLabels: {{app.kubernetes.io/name: pushgateway}}}}
  policyTypes: [Ingress]
  ingress: [{{from: [{{podSelector: {{matchLabels: {{mlops/backs-up: "true"}}}}}}], ports: [{{port: 9091}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: prometheus-from-airflow, namespace: mlops}}
spec:
  podSelector: {{matchLabels: {{app.kubernetes.io/name: prometheus}}}}
  policyTypes: [Ingress]
  ingress:
    - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: airflow}}}}}}]
      ports: [{{port: 9090}}]
"""


def airflow_chart() -> Path:
    """The official chart: E2E_AIRFLOW_CHART names its archive, or helm takes it from where it is published."""
    named = os.environ.get("E2E_AIRFLOW_CHART")
    if named:
        assert Path(named).is_file(), f"E2E_AIRFLOW_CHART={named}: no such file; name airflow-{CHART_VERSION}.tgz"
        return Path(named)
    folder = ROOT / "build" / "e2e"
    archive = folder / f"airflow-{CHART_VERSION}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run("helm", "pull", "airflow", "--repo", "https://airflow.apache.org", "--version", CHART_VERSION,
            "--destination", str(folder))  # fmt: skip
    return archive


def images() -> None:
    """Build the four of this commit, and bring everything into the cluster."""
    cluster.build_images(("api", "steps", "airflow", "mlflow"))
    others = ("redis:7-alpine", "postgres:15", "alpine:3.24.2", git_server.IMAGE, *IMAGES)
    for name in others:
        cluster.load_image(name)


def passwords(store: ObjectStore) -> dict[str, str]:
    """What an operator's folder of secrets would hold; one is such that a shell or a URL would make something of it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "restorer").write_text(f"r@:/?#&%x {secrets.token_hex(8)}")
        return by_hand.values(Path(folder), store.environment())


def base(store: ObjectStore) -> None:
    """Namespaces, settings, accounts, policies; twice, as the first makes the namespaces."""
    OVERLAY.mkdir(parents=True, exist_ok=True)
    settings = {
        **SETTINGS,
        "MLOPS_ALERT_FOR_SECONDS": str(float(300 / SHORTER)),
        "MLOPS_BACKUP_DATABASES": '["mlflow", "airflow"]',
        "MLOPS_TIMED_SCHEDULES": "false",  # unpausing a DAG would start the last scheduled run before ours
    }
    settings["MLOPS_PROMETHEUS_URL"] = "http://prometheus.mlops:9090"  # Airflow asks as well, from elsewhere
    literals = [f"{name}={value}" for name, value in settings.items()]
    (OVERLAY / "policies.yaml").write_text(POLICIES.format(store=store.port))
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*(os.path.relpath(ROOT / "deploy" / name, OVERLAY) for name in BASES), "policies.yaml"],
        "images": [{"name": f"mlops-dags/{name}", "newTag": code_version()} for name in ("mlflow", "steps")],
        "configMapGenerator": [
            {"name": "mlops-settings", "namespace": each, "behavior": "merge", "literals": literals}
            for each in NAMESPACES
        ],
        "generatorOptions": {"disableNameSuffixHash": True},
    }
    (OVERLAY / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    run("kubectl", "apply", "--server-side", "-f", "deploy/platform/namespaces.yaml")


def secrets_of(words: dict[str, str]) -> None:
    """As docs/install.md makes them; Prometheus and Alertmanager are in no namespace of their own here."""
    found = by_hand.manifests(words, git_server.URL)
    by_hand.apply([one for one in found if one["metadata"]["namespace"] in NAMESPACES])


def data_stores() -> None:
    """PostgreSQL and MLflow, and what the drill needs."""
    run("kubectl", "apply", "--server-side", "--force-conflicts", "-k", str(OVERLAY))
    documents = [one for one in yaml.safe_load_all(manifests()) if one and one["metadata"]["name"] not in OURS]
    apply("\n---\n".join(map(json.dumps, documents)))
    kubectl("rollout", "status", "statefulset/postgres", "--timeout=180s", timeout=200)
    kubectl("rollout", "status", "deployment/mlflow", "--timeout=300s", timeout=320)


def monitoring_ready() -> None:
    for name in ("deployment/prometheus", "deployment/alertmanager", "deployment/pushgateway", "deployment/inbox",
                 "statefulset/kafka"):  # fmt: skip
        kubectl("rollout", "status", name, "--timeout=180s", timeout=200)


def service(version: str) -> None:
    """The model API and its Redis, before there is a model: the replicas wait for the version."""
    small = {"requests": {"cpu": "40m", "memory": "192Mi"}, "limits": {"cpu": "300m", "memory": "256Mi"}}
    fetch = {"requests": {"cpu": "40m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    shrink = {"type": "Pods", "value": 2, "periodSeconds": 15}
    values = {
        "image": {"tag": code_version()},
        "model": {"version": version, "waitSeconds": 60},
        "api": {"minReadySeconds": 3, "progressDeadlineSeconds": 1800, "resources": small, "fetchResources": fetch},
        # Five quiet minutes before shrinking are right for a service, and too long for a test.
        "autoscaling": {
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30, "selectPolicy": "Max", "policies": [shrink]}}
        },
        "redis": {"existingSecret": "mlops-secrets", "existingSecretKey": "MLOPS_REDIS_PASSWORD"},
        "networkPolicy": {"mlflow": {"ports": [5000]}},
    }
    run("helm", "upgrade", "--install", RELEASE, "deploy/charts/model-api", "-n", "mlops", "--values", "-",
        stdin=json.dumps(values))  # fmt: skip
    kubectl("rollout", "status", f"statefulset/{RELEASE}-redis", "--timeout=180s", timeout=200)


def scorer() -> None:
    values = {
        "image": {"tag": code_version()},
        "kafka": {"bootstrap": SETTINGS["MLOPS_KAFKA_BOOTSTRAP"]},
        "topics": {"partitions": 3},
        "scorer": {"batch": 1, "lanes": 32, "resources": {"requests": {"cpu": "100m"}}},
    }
    run("helm", "upgrade", "--install", SCORER, "deploy/charts/scorer", "-n", "mlops", "--values", "-",
        stdin=json.dumps(values))  # fmt: skip


def airflow(*more: str) -> None:
    """The official chart with the repository's values; `more` are values files on top of them."""
    metrics = [
        {"name": "AIRFLOW__METRICS__OTEL_ON", "value": "True"},
        {"name": "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "value": "http://prometheus.mlops:9090/api/v1/otlp/v1/metrics"},
        {"name": "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "value": "http/protobuf"},
        {"name": "OTEL_METRIC_EXPORT_INTERVAL", "value": "5000"},
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "service.instance.id=dag-processor"},
    ]
    small: dict[str, Any] = {"resources": {"requests": SMALL}}
    patient = {"livenessProbe": {"timeoutSeconds": 60}}
    values = {
        "defaultAirflowTag": code_version(),
        "dags": {"gitSync": {"repo": git_server.URL, "period": "10s"}},
        "config": {"dag_processor": {"refresh_interval": 10, "min_file_process_interval": 10}},
        "scheduler": {**small, **patient},
        "dagProcessor": {**small, **patient, "env": metrics},
        "triggerer": {**small, **patient},
        "apiServer": {**small, **patient},
        "workers": {"kubernetes": {"resources": {"requests": SMALL}}},
        "migrateDatabaseJob": small,
        "createUserJob": small,
    }
    if more:  # the bundle is a list, which replaces the file's
        values["dagProcessor"]["dagBundleConfigList"] = _bundle(refresh=10)
    files = [word for name in ("airflow.yaml", *more) for word in ("--values", f"helm-values/{name}")]
    run("helm", "upgrade", "--install", "airflow", str(airflow_chart()), "-n", "airflow", *files, "--values", "-",
        "--wait", "--timeout", "10m", stdin=json.dumps(values), timeout=700)  # fmt: skip


def _bundle(refresh: int) -> list[dict[str, Any]]:
    file = yaml.safe_load((ROOT / "helm-values" / "airflow-git-bundle.yaml").read_text())
    bundles = file["dagProcessor"]["dagBundleConfigList"]
    bundles[0]["kwargs"]["refresh_interval"] = refresh
    return bundles


def remove() -> None:
    """Both namespaces with all that is in them, claims included, and what is in none."""
    run("kubectl", "delete", "namespace", *NAMESPACES, "--ignore-not-found", "--wait=true", timeout=300)
    run("kubectl", "delete", "--ignore-not-found", "-f", "deploy/platform/priorities.yaml")
    shutil.rmtree(OVERLAY, ignore_errors=True)
