"""All that Argo CD, Terraform and helm would apply, shown to a real API server: a dry run, with the definitions there.

make lint-deploy holds the same objects against schemas. The server knows more: rules of the definitions (CEL), names,
labels, ports that are taken twice, Pod Security's warnings.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lint.charts import COMMIT, ENVIRONMENTS, Tree, reachable
from deploy.lint.tools import NotChecked
from include.code_version import ROOT
from tests.e2e.cluster import run, wait_for

FIELD_MANAGER = ("--server-side", "--force-conflicts", "--field-manager=dry-run")
NO_DEFINITION = {"SparkApplication"}  # of an operator that the repository does not install
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = Tree(ROOT, ROOT / "build" / "lint")
    try:
        reachable(tree, list(tree.pins))
    except NotChecked as error:
        if os.environ.get("LINT_CHARTS"):
            raise
        pytest.skip(str(error)[:300])
    return tree


@pytest.fixture(scope="module")
def applications(tree: Tree) -> dict[str, tuple[str, list[Manifest]]]:
    """Namespace and objects of each Application of both environments, and of what is installed by other ways."""
    found: dict[str, tuple[str, list[Manifest]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for environment in ENVIRONMENTS:
            roots = tree.template("root", str(tree.argocd / "root"), "--set", f"environment={environment}")
            found[f"{environment}, root"] = ("argocd", roots)
            made = tree.applications(environment, Path(scratch))
            found[f"{environment}, applications"] = ("argocd", made)
            for each in made:
                place = each["spec"]["destination"]["namespace"]
                rendered = tree.rendered(each, Path(scratch), definitions=True)
                found[f"{environment}, {each['metadata']['name']}"] = (place, rendered)
    values = [str(ROOT / "helm-values" / name) for name in ("airflow.yaml", "airflow-git-bundle.yaml")]
    argo_cd = ("argocd", str(tree.chart("argo-cd")), "--include-crds", "-n", "argocd")
    found["argo-cd"] = ("argocd", tree.template(*argo_cd, "-f", str(ROOT / "deploy/terraform/argo-cd.yaml")))
    airflow = ("airflow", str(tree.chart("airflow")), "-n", "airflow", "--set", f"defaultAirflowTag={COMMIT}")
    found["airflow, GitDagBundle"] = ("airflow", tree.template(*airflow, "-f", values[0], "-f", values[1]))
    return found


@pytest.fixture(scope="module")
def prepared(applications: dict[str, tuple[str, list[Manifest]]]) -> Iterator[None]:
    """Namespaces and definitions are made for real: without them nothing of theirs can be judged."""
    everything = [each for _, objects in applications.values() for each in objects]
    definitions = _once([each for each in everything if each["kind"] == "CustomResourceDefinition"])
    names = {place for place, _ in applications.values()} | {
        each["metadata"]["namespace"] for each in everything if "namespace" in each["metadata"]
    }
    there = set(run("kubectl", "get", "namespaces", "-o", "name").split())
    ours = sorted(name for name in names if f"namespace/{name}" not in there)
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ours]
    _apply(spaces)
    _apply(definitions)
    selectors = [f"crd/{each['metadata']['name']}" for each in definitions]
    run("kubectl", "wait", "--for=condition=Established", "--timeout=120s", *selectors)
    # Discovery of what was just defined lags a little behind.
    kinds = {each["spec"]["names"]["plural"] for each in definitions}
    wait_for(lambda: kinds <= _served(), "all kinds are served", 60)
    yield
    run("kubectl", "delete", *selectors, "--wait=true", timeout=300)
    if ours:
        run("kubectl", "delete", "namespace", *ours, "--wait=true", timeout=300)


def test_everything_is_taken(applications: dict[str, tuple[str, list[Manifest]]], prepared: None) -> None:
    refused: list[str] = []
    for where, (namespace, objects) in applications.items():
        kept = [each for each in objects if each["kind"] not in {"CustomResourceDefinition", *NO_DEFINITION}]
        refused += [f"{where}: {said}" for said in _dry_run(kept, namespace)]
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize(
    ("where", "kind", "path", "value"),
    [
        ("production, postgresql", "StatefulSet", ("spec", "serviceName"), 7),
        ("production, kafka", "KafkaTopic", ("spec", "partitions"), 0),
        ("production, applications", "Application", ("spec", "destination"), None),
    ],
)
def test_a_seeded_mistake_is_refused(
    applications: dict[str, tuple[str, list[Manifest]]],
    prepared: None,
    where: str,
    kind: str,
    path: tuple[str, str],
    value: Any,
) -> None:
    namespace, objects = applications[where]
    broken = json.loads(json.dumps(next(each for each in objects if each["kind"] == kind)))
    broken[path[0]][path[1]] = value
    [said] = _dry_run([broken], namespace)
    assert path[1] in said


def _dry_run(objects: list[Manifest], namespace: str) -> list[str]:
    """What the server refuses or warns of, a line each. `namespace` is of those that name none."""
    placed: dict[str, list[Manifest]] = {}
    for each in objects:
        placed.setdefault(each["metadata"].get("namespace", namespace), []).append(each)
    said = []
    for place, some in placed.items():
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": some})
        words = ("kubectl", "apply", "-n", place, *FIELD_MANAGER, "--dry-run=server", "-f", "-")
        answer = run("bash", "-c", '"$@" 2>&1 > /dev/null || true', "dry-run", *words, stdin=text)
        said += [line for line in answer.splitlines() if line.strip()]
    return said


def _apply(objects: list[Manifest]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    run("kubectl", "apply", *FIELD_MANAGER, "-f", "-", stdin=text)


def _once(objects: list[Manifest]) -> list[Manifest]:
    return list({each["metadata"]["name"]: each for each in objects}.values())


def _served() -> set[str]:
    return {line.split(".")[0] for line in run("kubectl", "api-resources", "-o", "name").splitlines()}
