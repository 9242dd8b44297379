"""What a drill needs around the service: Kafka, Prometheus, Alertmanager, Pushgateway, the admin's inbox, the scorer.

Rules and routing are those of deploy/, with shorter times: nobody waits for five minutes in a test. The window over
which a replica's CPU is measured cannot shrink as much, since the kubelet looks at a container every 10 to 20 s only,
however often it is asked: 45 s hold two looks at least.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from hashlib import sha256
from string import Template
from typing import Any

import yaml

from include.code_version import ROOT, code_version
from include.local import compression
from include.local.alertmanager_server import ROUTING, delivered_to_inbox
from tests.e2e.cluster import NAMESPACE, RELEASE, apply, kubectl, run

MANIFESTS = ROOT / "tests" / "e2e" / "manifests" / "drill"
SCORER = "scorer"
SHORTER = Fraction(15)  # `for` of 5 minutes: 20 s
WINDOW = Fraction(2)  # of 90 s: 45 s
SCRAPE = "5s"
SETTINGS = {
    "MLOPS_KAFKA_BOOTSTRAP": "kafka:9092",
    "MLOPS_ATTACK_BROKERS": "kafka:9092",
    "MLOPS_PROMETHEUS_URL": "http://prometheus:9090",
    "MLOPS_ALERTMANAGER_URL": "http://alertmanager:9093",
    "MLOPS_PUSHGATEWAY_URL": "http://pushgateway:9091",
    "MLOPS_INBOX_URL": "http://inbox:8025",
    "MLOPS_MODEL_API_URL": f"http://{RELEASE}",
}
# What all six together need must fit on two cores, beside who makes the load.
SMALL = {"requests": {"cpu": "60m", "memory": "192Mi"}, "limits": {"cpu": "100m", "memory": "256Mi"}}
DRILL = {
    "quiet_rate": 20,
    "stages": "20x5,100x10,200x10",
    "surge_factor": 1.3,
    "surge_hold": 10,
    "surge_cap": 800,
    "max_minutes": 8,
}
PROGRAMS = ("kafka", "prometheus", "kube-state-metrics", "pushgateway", "alertmanager", "inbox")
IMAGES = (
    "apache/kafka:4.3.1",
    "prom/prometheus:v3.15.0",
    "prom/alertmanager:v0.34.2",
    "prom/pushgateway:v1.5.1",
    "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.17.0",
)


@contextmanager
def platform() -> Iterator[None]:
    """All of it, as long as the block lasts. The namespace and the service are there already."""
    apply(manifests())
    try:
        kinds = {"kafka": "statefulset"}
        for name in PROGRAMS:
            kubectl("rollout", "status", f"{kinds.get(name, 'deployment')}/{name}", "--timeout=180s", timeout=200)
        values = {
            "image": {"tag": code_version()},
            "kafka": {"bootstrap": SETTINGS["MLOPS_KAFKA_BOOTSTRAP"]},
            "topics": {"partitions": 3},
            # One transaction a request: the replicas are at their limit at a rate that two cores can make.
            "scorer": {"batch": 1, "lanes": 32, "resources": {"requests": {"cpu": "300m"}}},
        }
        run("helm", "upgrade", "--install", SCORER, "deploy/charts/scorer", "-n", NAMESPACE, "--values", "-",
            stdin=json.dumps(values))  # fmt: skip
        kubectl("rollout", "status", f"deployment/{SCORER}", "--timeout=180s", timeout=200)
        yield
    finally:
        if not os.environ.get("E2E_KEEP"):
            dismantle()


def dismantle() -> None:
    """Take it away: the tests after the drill want the machine, and a namespace without these policies."""
    run("helm", "uninstall", SCORER, "-n", NAMESPACE, "--ignore-not-found")
    kubectl("delete", "-f", "-", "--ignore-not-found", "--wait=false", "--grace-period=1", stdin=manifests())


def manifests() -> str:
    """Everything but the scorer, as one file. The inbox is the repository's own."""
    configurations = {"prometheus": _prometheus_files(), "alertmanager": {"alertmanager.yaml": _routing()}}
    known = {
        "namespace": NAMESPACE,
        "tag": code_version(),
        "resend": compression.resend_delay(SHORTER),
        "checksum": sha256(json.dumps(configurations).encode()).hexdigest(),
    }
    texts = [Template(file.read_text()).substitute(known) for file in sorted(MANIFESTS.glob("*.yaml"))]
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files}
        for name, files in configurations.items()
    ]
    inbox = run("kubectl", "kustomize", "deploy/inbox").replace(":unset", f":{code_version()}")
    return "\n---\n".join([*map(json.dumps, maps), *texts, inbox])


def _prometheus_files() -> dict[str, str]:
    rules = {
        name: (ROOT / "deploy" / "rules" / name).read_text() for name in ("alerts.yaml", "recording-kubernetes.yaml")
    }
    shorter = {name: _divided(_divided(text, compression.FOR, SHORTER), compression.WINDOW, WINDOW)
               for name, text in rules.items()}  # fmt: skip
    return {"prometheus.yaml": yaml.safe_dump(_scraping(list(rules)), sort_keys=False), **shorter}


def _divided(text: str, pattern: Any, factor: Fraction) -> str:
    """Every time that the pattern finds, divided."""
    return pattern.sub(
        lambda found: found[1] + compression.duration(int(found[2]) * compression.UNITS[found[3]] / factor), text
    )


def _scraping(rules: list[str]) -> dict[str, Any]:
    """As an installation would: kubelets, kube-state-metrics, pods; who speaks for others keeps their labels."""
    pods = [{"role": "pod", "namespaces": {"own_namespace": True}}]
    here = [{"target_label": "namespace", "replacement": NAMESPACE}]
    return {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE, "scrape_timeout": SCRAPE},
        "rule_files": rules,
        "alerting": {"alertmanagers": [{"static_configs": [_at("alertmanager:9093")]}]},
        "scrape_configs": [
            {
                "job_name": "kubelet",
                "scheme": "https",
                "metrics_path": "/metrics/cadvisor",
                "authorization": {"credentials_file": "/var/run/secrets/kubernetes.io/serviceaccount/token"},
                "tls_config": {"insecure_skip_verify": True},  # kubelets sign their certificates themselves, mostly
                "kubernetes_sd_configs": [{"role": "node"}],
                "honor_labels": True,
                "metric_relabel_configs": [
                    {"source_labels": ["namespace"], "regex": NAMESPACE, "action": "keep"},
                    {"source_labels": ["__name__"], "regex": "container_(cpu|memory)_.+", "action": "keep"},
                ],
            },
            {
                "job_name": "kube-state-metrics",
                "honor_labels": True,
                "static_configs": [_at("kube-state-metrics:8080")],
            },
            {
                "job_name": "model-api",
                "kubernetes_sd_configs": pods,
                "relabel_configs": [_named(RELEASE), _port(8000), *_labels()],
            },
            {
                "job_name": "scorer",
                "kubernetes_sd_configs": pods,
                "relabel_configs": [_named(SCORER), _port(8010), *_labels()],
            },
            {
                "job_name": "pushgateway",
                "honor_labels": True,
                "static_configs": [_at("pushgateway:9091")],
                "relabel_configs": here,
            },
            {"job_name": "alertmanager", "static_configs": [_at("alertmanager:9093")], "relabel_configs": here},
            {"job_name": "prometheus", "static_configs": [_at("localhost:9090")], "relabel_configs": here},
        ],
    }


def _named(name: str) -> dict[str, Any]:
    return {"source_labels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "regex": name, "action": "keep"}


def _port(port: int) -> dict[str, Any]:
    """One target for each pod, not one for each of its containers' ports."""
    return {"source_labels": ["__meta_kubernetes_pod_container_port_number"], "regex": str(port), "action": "keep"}


def _labels() -> list[dict[str, Any]]:
    meta = {"namespace": "__meta_kubernetes_namespace", "pod": "__meta_kubernetes_pod_name"}
    return [{"source_labels": [source], "target_label": label} for label, source in meta.items()]


def _at(address: str) -> dict[str, Any]:
    return {"targets": [address]}


def _routing() -> str:
    """The routes and receivers of deploy/, all of it delivered to the inbox."""
    return delivered_to_inbox(compression.routing(ROUTING.read_text(), SHORTER), 8025, 2525, "inbox")
