"""The drill on a real cluster: load over Kafka, six replicas, the admin's page in the inbox, and back to four.

A real scheduler runs it: the load and the watch are two tasks at the same time, which `airflow dags test` is not.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console

from include.code_version import ROOT, code_version
from include.local.airflow_api import AirflowApi
from include.local.airflow_standalone import airflow_standalone
from include.local.dag_runs import run_dag, wait_until_parsed
from include.local.demo_drill import timeline
from include.local.postgres_server import database_url, postgres_server
from include.local.programs import provide
from include.local.stack import inherited_environment
from include.local.state import State
from include.local.supervisor import Supervisor
from tests.e2e import cluster
from tests.e2e.chart_policy import offences
from tests.e2e.cluster import RELEASE, apply, get, is_ready, kubectl, pods, port_forward, run, wait_for
from tests.e2e.drill_platform import DRILL, IMAGES, SETTINGS, SHORTER, SMALL, manifests, platform

ALERT = "AdminNotification_MaxScaleHighCPU"


def all_ready(number: int = 4) -> bool:
    found = pods()
    return len(found) == number and all(map(is_ready, found))


@pytest.fixture(scope="module")
def drilled_service(service: str) -> Iterator[str]:
    """The service with small replicas, and all that a drill needs around it."""
    for image in IMAGES:
        cluster.load_image(image)
    settings = {**get("configmap", "mlops-settings")["data"], **SETTINGS}
    apply(
        json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mlops-settings"}, "data": settings})
    )
    before = get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]["resources"]
    resize(SMALL)
    with platform():
        # Starting is work too, and the autoscaler may have taken it for load: the drill begins at four.
        wait_for(all_ready, "four replicas are ready", 240)
        yield service
    if not os.environ.get("E2E_KEEP"):
        resize(before)
        wait_for(all_ready, "four replicas are ready", 240)


def resize(resources: dict[str, Any]) -> None:
    """Other CPU limits, all replicas at once: one after the other would take minutes."""
    containers = {"spec": {"containers": [{"name": "api", "resources": resources}]}}
    at_once = {"strategy": {"rollingUpdate": {"maxSurge": "100%"}}, "template": containers}
    kubectl("patch", "deployment", RELEASE, "-p", json.dumps({"spec": at_once}))
    kubectl("rollout", "status", f"deployment/{RELEASE}", "--timeout=240s", timeout=260)
    kubectl(
        "patch", "deployment", RELEASE, "-p", json.dumps({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1}}}})
    )
    wait_for(all_ready, "four replicas are ready", 240)


@pytest.fixture(scope="module")
def airflow(airflow_home: dict[str, str]) -> Iterator[AirflowApi]:
    """A scheduler on this machine whose steps are pods of the cluster."""
    provide(["postgres"], print)
    with tempfile.TemporaryDirectory(prefix="e2e-", ignore_cleanup_errors=True) as folder:
        state = State(Path(folder))
        supervisor = Supervisor(state, say=print)
        ports = state.choose_ports(keep=False)
        steps = {name: value for name, value in airflow_home.items() if name.startswith(("MLOPS_", "AIRFLOW_CONN_"))}
        # It only asks for pods, so it runs what the images hold, whatever is committed meanwhile.
        steps |= {"MLOPS_CODE_VERSION": code_version(), "MLOPS_TIMED_SCHEDULES": "false"}
        steps |= {"MLOPS_ALERT_FOR_SECONDS": str(float(300 / SHORTER))}
        database = database_url(ports["postgres"], "airflow")
        processes = [
            postgres_server(state, ports["postgres"]),
            airflow_standalone(state, ports, ROOT / "dags", steps, database, after=("postgres",)),
        ]
        environment = {name: value for name, value in inherited_environment().items() if name != "KUBECONFIG"}
        try:
            supervisor.start(processes, environment)
            yield AirflowApi(processes[-1].address)
        finally:
            supervisor.stop_all()


@pytest.fixture(scope="module")
def drill(drilled_service: str, airflow: AirflowApi, facts: dict[str, Any]) -> dict[str, Any]:
    """One drill: what the run and its tasks said."""
    quiet = Console(force_terminal=False)
    wait_until_parsed(airflow, "alert_drill", quiet)
    done = run_dag(airflow, "alert_drill", DRILL, quiet)
    said = {task: airflow.xcom("alert_drill", done.run_id, task) for task in ("preflight", "attack", "watch", "judge")}
    facts["drill"] = {"state": done.state, "seconds": round(done.seconds), **{name: said[name] for name in ("judge",)}}
    if said["judge"]:
        quiet.print(timeline(said["judge"]))
    return {"state": done.state, "run_id": done.run_id, **said}


def test_the_scorers_chart_keeps_the_rules(images: dict[str, str]) -> None:
    for engine in ("python", "spark-job", "spark-application"):
        values = {"image": {"tag": code_version()}, "engine": engine}
        command = ("helm", "template", "scorer", "deploy/charts/scorer", "--kube-version", "1.34.0", "--values", "-")
        rendered = run(*command, stdin=json.dumps(values))
        assert offences(list(yaml.safe_load_all(rendered))) == []


def test_the_platform_is_closed_but_for_what_is_listed() -> None:
    """Every pod of it is chosen by a policy of its own, besides the one that denies all."""
    documents = [document for document in yaml.safe_load_all(manifests()) if document]
    chosen = [one["spec"]["podSelector"].get("matchLabels") for one in documents if one["kind"] == "NetworkPolicy"]
    workloads = [one for one in documents if one["kind"] in ("Deployment", "StatefulSet")]
    assert {} in [one["spec"]["podSelector"] for one in documents if one["kind"] == "NetworkPolicy"]
    assert len(workloads) == 6
    for workload in workloads:
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert any(each and each.items() <= labels.items() for each in chosen), workload["metadata"]["name"]


def test_the_page_arrives(drill: dict[str, Any]) -> None:
    judged = drill["judge"]
    assert judged, f"the drill ended {drill['state']} before anything was judged"
    assert judged["verdict"] == "ALERT_RECEIVED", judged
    assert drill["state"] == "success"
    assert set(judged["seconds_to_receipt"]) == {"mail", "webhook"}


def test_the_load_was_accounted_for(drill: dict[str, Any]) -> None:
    totals = drill["attack"]["totals"]
    assert totals["unaccounted"] == 0
    assert totals["acked"] == totals["predicted"] + totals["dead_lettered"]


def test_prometheus_saw_six_replicas_and_a_hot_one(drill: dict[str, Any]) -> None:
    """Asked of Prometheus itself, not of the drill."""
    with port_forward("service/prometheus", 9090) as port:
        ask = _asking(port)
        assert ask("max_over_time(model_api:replicas_ready[15m])") == 6
        assert ask("max_over_time(model_api:cpu_utilisation:max[15m])") > 0.8
        assert ask("count(model_api:cpu_utilisation)") >= 4


def test_the_inbox_has_both_copies_of_the_page_and_of_its_end(drill: dict[str, Any]) -> None:
    with port_forward("service/inbox", 8025) as port:
        since = drill["preflight"]["started"]
        answer = httpx.get(f"http://127.0.0.1:{port}/messages", params={"since": since}, trust_env=False)
    told = [one for one in answer.json() if one["alertname"] == ALERT]
    assert {(one["channel"], one["status"]) for one in told} >= {
        (channel, status) for channel in ("mail", "webhook") for status in ("firing", "resolved")
    }


def test_it_is_back_at_four(drill: dict[str, Any]) -> None:
    wait_for(lambda: get("deployment", RELEASE)["status"].get("replicas") == 4, "four replicas again", 120)


def _asking(port: int) -> Callable[[str], float]:
    def ask(query: str) -> float:
        url = f"http://127.0.0.1:{port}/api/v1/query"
        found = httpx.get(url, params={"query": query}, trust_env=False).json()["data"]["result"]
        assert found, query
        return float(found[0]["value"][1])

    return ask
