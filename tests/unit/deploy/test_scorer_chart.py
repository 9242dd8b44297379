"""The scorer's chart: values, schema and comments agree; with helm on PATH also what it renders for each engine."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.e2e.chart_policy import offences

CHART = Path(__file__).parents[3] / "deploy" / "charts" / "scorer"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = "".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
ENGINES = ("python", "spark-job", "spark-application")

Keys = tuple[str, ...]


def complaints(values: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(values)]


def with_value(path: Keys, value: Any) -> dict[str, Any]:
    """The default values with one of them replaced or added."""
    values = copy.deepcopy(VALUES)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return values


def paths_of_objects(values: dict[str, Any] = VALUES, path: Keys = ()) -> Iterator[Keys]:
    yield path
    for key, value in values.items():
        if isinstance(value, dict):
            yield from paths_of_objects(value, (*path, key))


def test_the_default_values_keep_the_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert complaints(VALUES) == []
    assert complaints(with_value(("image", "tag"), "abc123")) == []


@pytest.mark.parametrize("path", list(paths_of_objects()), ids=lambda path: ".".join(path) or "root")
def test_a_typo_is_refused_wherever_it_is(path: Keys) -> None:
    assert complaints(with_value((*path, "tpyo!"), 1)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("engine",), "flink"),
        (("image", "tag"), "a tag"),
        (("image", "api"), "mlops-dags/api:abc123"),
        (("kafka", "bootstrap"), "kafka"),
        (("kafka", "bootstrap"), "kafka:9092, other:9092"),
        (("kafka", "transactionsTopic"), "a topic"),
        (("topics", "partitions"), 0),
        (("modelApi", "url"), "model-api"),
        (("modelApi", "url"), "http://user:password@model-api"),
        (("scorer", "replicas"), -1),
        (("scorer", "resources", "limits"), {"cpu": "1"}),
        (("spark", "version"), "4"),
        (("spark", "executors", "memory"), "1Gi"),
        (("spark", "checkpoint", "accessMode"), "ReadOnlyMany"),
        (("networkPolicy", "metricsFrom"), [{}]),
        (("networkPolicy", "kafka", "ports"), [70000]),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(path: Keys, value: Any) -> None:
    assert complaints(with_value(path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kafka", "bootstrap"), "a.example.org:9092,b.example.org:9093"),
        (("modelApi", "url"), "https://model-api.example.org:8443"),
        (("scorer", "replicas"), 0),
        (("networkPolicy", "metricsFrom"), []),
        (("networkPolicy", "kafka", "to"), [{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
        (("podMonitor", "labels"), {"release": "prometheus"}),
    ],
    ids=str,
)
def test_a_right_value_is_accepted(path: Keys, value: Any) -> None:
    assert complaints(with_value(path, value)) == []


def test_every_value_has_a_description() -> None:
    def silent(schema: dict[str, Any], where: str) -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            about = inner.get("description")
            if not about and "properties" not in inner:
                yield f"{where}.{key}"
            yield from silent(inner, f"{where}.{key}")

    assert list(silent({"properties": SCHEMA["properties"]}, "")) == []


def test_templates_read_no_value_that_does_not_exist_and_leave_none_out() -> None:
    read = {tuple(path.strip(".").split(".")) for path in re.findall(r"\.Values((?:\.[A-Za-z]+)+)", TEMPLATES)}
    for path in read:
        inner: Any = VALUES
        for key in path:
            assert key in inner, path
            inner = inner[key]
    for key in set(VALUES) - {path[0] for path in read}:
        pytest.fail(f"no template reads {key}")


@pytest.fixture(scope="session")
def helm() -> str:
    """Path of helm; no Python package brings it, so its tests are skipped where it is missing."""
    found = shutil.which("helm")
    if found is None:
        pytest.skip("helm is not on PATH")
    return found


def rendered(helm: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    given = json.dumps({**values, "image": {"tag": "abc123"}})
    ran = render(helm, given)
    assert ran.returncode == 0, ran.stderr
    return [manifest for manifest in yaml.safe_load_all(ran.stdout) if manifest]


def render(helm: str, values: str) -> subprocess.CompletedProcess[str]:
    command = [
        helm,
        "template",
        "scorer",
        str(CHART),
        "--kube-version",
        "1.34.0",
        "--namespace",
        "mlops",
        "--values",
        "-",
    ]
    return subprocess.run(command, input=values, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_renders(helm: str, engine: str) -> None:
    manifests = rendered(helm, {"engine": engine})
    runs = {"python": "Deployment", "spark-job": "Job", "spark-application": "SparkApplication"}
    kinds = [manifest["kind"] for manifest in manifests]
    assert [kind for kind in kinds if kind in runs.values()] == [runs[engine]]
    assert ("PersistentVolumeClaim" in kinds) == (engine != "python")
    assert ("Role" in kinds) == (engine == "spark-application")
    assert offences(manifests) == []


def test_more_replicas_get_a_budget_and_one_alone_gets_none(helm: str) -> None:
    def budgets(replicas: int) -> int:
        return [one["kind"] for one in rendered(helm, {"scorer": {"replicas": replicas}})].count("PodDisruptionBudget")

    assert (budgets(1), budgets(3)) == (0, 1)


def test_the_network_policy_opens_what_is_needed(helm: str) -> None:
    [policy] = [one["spec"] for one in rendered(helm, {}) if one["kind"] == "NetworkPolicy"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == [8010]
    assert sorted({port["port"] for rule in policy["egress"] for port in rule["ports"]}) == [53, 8000, 9092]
    assert all(rule["to"] for rule in policy["egress"])


def test_nobody_may_ask_for_metrics_when_the_list_is_empty(helm: str) -> None:
    [policy] = [
        one["spec"] for one in rendered(helm, {"networkPolicy": {"metricsFrom": []}}) if one["kind"] == "NetworkPolicy"
    ]
    assert "ingress" not in policy


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image": {"tag": ""}}, "image.tag is empty"),
        ({"scorer": {"drainSeconds": 60}}, "terminationGracePeriodSeconds is 30"),
        ({"scorer": {"replicas": 7}}, "scorer.replicas is 7"),
        ({"kafka": {"deadLetterTopic": "fraud-predictions"}}, "are not three"),
    ],
    ids=str,
)
def test_values_that_contradict_each_other_are_refused(helm: str, values: dict[str, Any], said: str) -> None:
    ran = render(helm, json.dumps({"image": {"tag": "abc123"}} | values))
    assert ran.returncode != 0
    assert said in ran.stderr
