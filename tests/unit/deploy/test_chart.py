"""The chart's values, schema and comments agree; what rendering shows is for the tests that have helm."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

CHART = Path(__file__).parents[3] / "deploy" / "charts" / "model-api"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}

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


def definition(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its ``$ref`` followed; what stands beside the reference stays."""
    reference = schema.get("$ref")
    if not reference:
        return schema
    return {**SCHEMA["$defs"][reference.removeprefix("#/$defs/")], **{k: v for k, v in schema.items() if k != "$ref"}}


def objects_of_values(values: dict[str, Any] = VALUES, path: Keys = ()) -> Iterator[Keys]:
    """The path of every mapping in values.yaml."""
    yield path
    for key, value in values.items():
        if isinstance(value, dict):
            yield from objects_of_values(value, (*path, key))


def schema_at(path: Keys) -> dict[str, Any]:
    schema = SCHEMA
    for key in path:
        schema = definition(schema)["properties"][key]
    return definition(schema)


def commented_keys() -> tuple[set[Keys], set[Keys]]:
    """The keys of values.yaml outside of lists, as read from its lines: all, and those under a comment."""
    every, commented = set(), set()
    above: list[tuple[int, str]] = []
    after_comment = False
    list_indent: int | None = None
    for line in (CHART / "values.yaml").read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if list_indent is not None and line.strip() and indent < list_indent:
            list_indent = None
        if line.lstrip().startswith("- ") and list_indent is None:
            list_indent = indent
        key = re.match(r"\s*([A-Za-z]+):", line)
        if key and list_indent is None:
            above = [(depth, name) for depth, name in above if depth < indent] + [(indent, key[1])]
            path = tuple(name for _, name in above)
            every.add(path)
            if after_comment:
                commented.add(path)
        after_comment = line.lstrip().startswith("#")
    return every, commented


def test_the_default_values_keep_the_schema():
    assert complaints(VALUES) == []
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("path", "value"), [(("image", "tag"), "abc123"), (("model", "version"), 3)])
def test_what_must_be_given_is_accepted(path, value):
    assert complaints(with_value(path, value)) == []


@pytest.mark.parametrize("path", list(objects_of_values()), ids=lambda path: ".".join(path) or "root")
def test_a_typo_is_refused_wherever_it_is(path):
    assert complaints(with_value((*path, "tpyo!"), 1)) != []


def test_no_object_of_the_schema_is_open():
    def open_objects(node: Any, where: str) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("type") == "object" and node.get("additionalProperties") is not False:
                yield where
            for key, inner in node.items():
                yield from open_objects(inner, f"{where}/{key}")
        elif isinstance(node, list):
            for inner in node:
                yield from open_objects(inner, f"{where}[]")

    assert list(open_objects(SCHEMA, "")) == []


@pytest.mark.parametrize("path", list(objects_of_values()), ids=lambda path: ".".join(path) or "root")
def test_values_and_schema_have_the_same_keys(path):
    schema = schema_at(path)
    if "patternProperties" in schema:
        return
    values: Any = VALUES
    for key in path:
        values = values[key]
    assert set(values) == set(schema["properties"])


def test_every_value_has_a_comment():
    every, commented = commented_keys()
    assert ("api", "probes", "startup", "periodSeconds") in every  # the reading of lines works at all
    assert {path[0] for path in every} == set(VALUES)
    groups = {path[:-1] for path in every if len(path) > 1}
    # A heading such as `image:` speaks for itself.
    assert every - commented - groups == set()


def test_every_value_has_a_description_in_the_schema():
    every, _ = commented_keys()
    parents = {path[:-1] for path in every}
    for path in sorted(every - parents):
        inside_a_shared_shape = (
            "resources" in path or "fetchResources" in path or "probes" in path or "behavior" in path
        )
        assert inside_a_shared_shape or schema_at(path).get("description"), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "version"), "three"),
        (("model", "version"), 0),
        (("image", "tag"), "a tag"),
        (("image", "api"), "mlops-dags/api:abc123"),
        (("mlflow", "trackingUri"), "mlflow:5000"),
        (("autoscaling", "maxReplicas"), "six"),
        (("podDisruptionBudget", "maxUnavailable"), 0),
        (("api", "sharedMemory"), "128 MB"),
        (("api", "settings"), {"MLOPS_REDIS_PASSWORD": "secret"}),
        (("api", "settings"), {"MLOPS_DRAIN_SECONDS": "1"}),
        (("api", "settings"), {"PATH": "/"}),
        (("api", "resources", "limits"), {"cpu": "1"}),
        (("networkPolicy", "apiFrom"), [{}]),
        (("networkPolicy", "apiFrom"), [{"namspaceSelector": {}}]),
        (("networkPolicy", "mlflow", "ports"), [70000]),
        (("redis", "maxMemory"), "100Mi"),
        (("redis", "image"), None),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(path, value):
    assert complaints(with_value(path, value)) != []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "version"), "12"),
        (("image", "api"), "registry.example.org:5000/mlops-dags/api"),
        (("podDisruptionBudget", "maxUnavailable"), "25%"),
        (("api", "settings"), {"MLOPS_MAX_ROWS": "1000"}),
        (("api", "resources", "limits"), {"memory": "512Mi"}),
        (("networkPolicy", "apiFrom"), []),
        (("networkPolicy", "apiFrom"), [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]),
        (("ingress", "annotations"), {"nginx.ingress.kubernetes.io/proxy-body-size": "1m"}),
    ],
    ids=str,
)
def test_a_right_value_is_accepted(path, value):
    assert complaints(with_value(path, value)) == []


def test_the_figures_that_were_asked_for():
    assert VALUES["api"]["resources"] == {
        # 128Mi was asked for; values.yaml says why it is more.
        "requests": {"cpu": "100m", "memory": "192Mi"},
        "limits": {"cpu": "200m", "memory": "256Mi"},
    }
    assert VALUES["redis"]["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "100m", "memory": "128Mi"},
    }
    scaling = VALUES["autoscaling"]
    assert [scaling[key] for key in ("minReplicas", "maxReplicas", "cpuPercent", "memoryPercent")] == [4, 6, 80, 70]
    assert (VALUES["redis"]["maxMemory"], VALUES["api"]["sharedMemory"]) == ("100mb", "128Mi")


def test_every_value_is_used_by_a_template():
    every, _ = commented_keys()
    parents = {path[:-1] for path in every}
    text = "".join(TEMPLATES.values())
    # The last names along each path; `with` and `range` shorten the rest, toYaml takes whole groups.
    whole_groups = ("resources", "fetchResources", "startup", "readiness", "liveness", "behavior")
    for path in sorted(every - parents):
        name = next((key for key in path if key in whole_groups), path[-1])
        assert re.search(rf"\.{name}\b", text), path


def test_templates_read_no_value_that_does_not_exist():
    paths = set(re.findall(r"\.Values((?:\.[A-Za-z]+)+)", "".join(TEMPLATES.values())))
    assert len(paths) > 20
    for path in paths:
        inner: Any = VALUES
        for key in path.strip(".").split("."):
            assert key in inner, path
            inner = inner[key]


def test_the_deployment_has_no_replicas():
    assert not re.search(r"^\s*replicas:", TEMPLATES["api-deployment.yaml"], re.MULTILINE)
