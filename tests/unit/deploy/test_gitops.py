"""What Argo CD, skaffold, the workflows and Renovate say agrees with the rest of the repository."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.lint.charts import COMMIT, ENVIRONMENTS, Manifest, Tree
from deploy.lint.checks import group_of, of_applications
from deploy.lint.pods import PODS, outside
from deploy.lint.rights import accounts_of, disagreements
from deploy.lint.tools import Missing, NotChecked, program
from include.serving.rollout import on_kubernetes
from include.serving.rollout.deployment import Rollout
from include.settings import Settings

ROOT = Path(__file__).parents[3]
TREE = Tree(ROOT, ROOT / "build/lint")
WORKFLOWS = {
    file.stem: yaml.load(file.read_text(), yaml.BaseLoader)
    for file in sorted((ROOT / ".github/workflows").glob("*.yaml"))
}
SCRIPTS = ROOT / ".github/scripts"
KEPT = "Prune=false,Delete=false"


# --- Argo CD


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def applications(request, tmp_path_factory) -> dict[str, Manifest]:
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    found = TREE.applications(request.param, tmp_path_factory.mktemp("scratch"))
    return {each["metadata"]["name"]: each for each in found}


@pytest.fixture(scope="module")
def installed() -> list[Manifest]:
    """Everything of ours that the Applications of both environments install."""
    try:
        for name in ("helm", "kustomize"):
            program(name, TREE.cache)
    except (Missing, NotChecked) as error:
        pytest.skip(str(error))
    found, broken = of_applications(TREE, own=True)
    assert broken == []
    return [each for all_ in found.values() for each in all_]


def wave(application: Manifest) -> int:
    return int(application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def test_waves(applications: dict[str, Manifest]) -> None:
    order = [
        {"platform"},
        {"strimzi", "external-secrets"},
        {"secrets-mlops", "secrets-airflow", "secrets-monitoring", "storage"},
        {"postgresql", "kafka"},
        {"monitoring", "pushgateway", "rules", "mlflow", "inbox"},
        {"model-api", "scorer", "airflow"},
    ]
    for name, application in applications.items():
        assert name in order[wave(application)]
    assert {"platform", "strimzi", "postgresql", "kafka", "monitoring", "model-api", "airflow"} <= set(applications)


def test_an_application_takes_nothing_along(applications: dict[str, Manifest]) -> None:
    """Without the finalizer, deleting an Application leaves what it installed."""
    assert all("finalizers" not in each["metadata"] for each in applications.values())


def test_applications_keep_to_their_project(applications: dict[str, Manifest]) -> None:
    values = yaml.safe_load((TREE.argocd / "root/values.yaml").read_text())
    for application in applications.values():
        spec = application["spec"]
        assert spec["project"] == "mlops"
        assert spec["destination"]["namespace"] in values["namespaces"]
        for source in spec.get("sources") or [spec["source"]]:
            assert source["repoURL"] in [values["repository"], *values["chartRepositories"]]
            assert "chart" not in source or source["targetRevision"] == TREE.pins[source["chart"]]["version"]


def test_large_definitions_are_applied_by_the_server(applications: dict[str, Manifest]) -> None:
    for application in applications.values():
        assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of a patch's values; elements of a list go by their name."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(node, list):
        for inner in node:
            yield from leaves({key: value for key, value in inner.items() if key != "name"}, (*path, inner["name"]))
    else:
        yield path


def test_what_a_rollout_changes_is_left_to_it(applications: dict[str, Manifest], monkeypatch) -> None:
    """Each field of the very patch that `set_version` sends is ignored, or in no chart."""
    patches: list[dict[str, Any]] = []
    deployment = on_kubernetes.KubernetesDeployment("mlops", "model-api")
    monkeypatch.setattr(deployment, "_patch", patches.append)
    deployment.set_version("2", "because", Rollout())
    changed = set(leaves(patches[0]))
    ignored = applications["model-api"]["spec"]["ignoreDifferences"]
    assert [(each["group"], each["kind"], each["name"]) for each in ignored] == [("apps", "Deployment", "model-api")]
    pointers = {
        tuple(part.replace("~1", "/") for part in pointer.split("/")[1:]) for pointer in ignored[0]["jsonPointers"]
    }
    queries = [
        re.fullmatch(
            r'\.spec\.template\.spec\.initContainers\[\]\? \| select\(\.name == "([a-z-]+)"\)'
            r' \| \.env\[\]\? \| select\(\.name == "([A-Z_]+)"\) \| \.value',
            query,
        )
        for query in ignored[0]["jqPathExpressions"]
    ]
    variables = {
        ("spec", "template", "spec", "initContainers", found[1], "env", found[2], "value") for found in queries if found
    }
    only_rollouts_write = {("metadata", "annotations", on_kubernetes.ROLLOUT)}
    assert changed == (pointers - {("spec", "replicas")}) | variables | only_rollouts_write
    assert ("spec", "replicas") in pointers
    assert "RespectIgnoreDifferences=true" in applications["model-api"]["spec"]["syncPolicy"]["syncOptions"]


def test_the_ignored_fields_are_in_the_chart(installed: list[Manifest]) -> None:
    """And the annotation that is not compared is not."""
    api = next(each for each in installed if (each["kind"], each["metadata"]["name"]) == ("Deployment", "model-api"))
    assert "replicas" not in api["spec"]
    assert on_kubernetes.CAUSE in api["metadata"]["annotations"]
    assert on_kubernetes.ROLLOUT not in api["metadata"]["annotations"]
    template = api["spec"]["template"]
    assert on_kubernetes.VERSION_LABEL in template["metadata"]["labels"]
    fetch = next(each for each in template["spec"]["initContainers"] if each["name"] == on_kubernetes.FETCH)
    assert on_kubernetes.VERSION_VARIABLE in [each["name"] for each in fetch["env"]]


def test_the_query_finds_the_version_and_nothing_else(installed: list[Manifest], applications) -> None:
    """Argo CD takes out what the query finds, by the same language."""
    if not shutil.which("jq"):
        pytest.skip("jq is not on PATH")
    api = next(each for each in installed if (each["kind"], each["metadata"]["name"]) == ("Deployment", "model-api"))
    (query,) = applications["model-api"]["spec"]["ignoreDifferences"][0]["jqPathExpressions"]
    done = subprocess.run(
        ["jq", "--compact-output", f"[paths] - (del({query}) | [paths])"],
        input=json.dumps(api),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) == 1
    assert (found[0][-3], found[0][-1]) == ("env", "value")


DATA = {"PersistentVolumeClaim", "Namespace", "Kafka", "KafkaNodePool", "KafkaTopic"}


def test_data_is_never_pruned(installed: list[Manifest]) -> None:
    seen = set()
    for each in installed:
        if each["kind"] in DATA:
            seen.add(each["kind"])
            annotations = each["metadata"].get("annotations") or {}
            assert annotations.get("argocd.argoproj.io/sync-options") == KEPT, each["metadata"]["name"]
    assert seen == DATA


def test_our_pods_are_restricted(installed: list[Manifest]) -> None:
    """Those of other people's charts: `make lint-deploy NAME=pod-security`."""
    assert [f"{each['metadata']['name']}: {breach}" for each in installed for breach in outside(each)] == []
    assert sum(each["kind"] in PODS for each in installed) > 5


def test_what_we_install_is_permitted(installed: list[Manifest]) -> None:
    """The whole of it: `make lint-deploy NAME=permitted-kinds`."""
    text = (TREE.argocd / "root/templates/projects.yaml").read_text()
    permitted = set(re.findall(r'\{group: "?([a-z0-9.-]*)"?, kind: (\w+)\}', text))
    assert {(group_of(each), each["kind"]) for each in installed} <= permitted


def test_claims_of_stateful_sets_stay(installed: list[Manifest]) -> None:
    sets = [each for each in installed if each["kind"] == "StatefulSet"]
    assert sets
    for each in sets:
        assert (each["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted", "Retain") == "Retain"


def test_our_images_are_of_the_commit(installed: list[Manifest]) -> None:
    registry = yaml.safe_load((TREE.argocd / "applications/values.yaml").read_text())["image"]["registry"]
    text = json.dumps(installed)
    ours = set(re.findall(rf'"image": "({re.escape(registry)}/[^"]*)"', text))
    assert {image.rpartition("/")[2] for image in ours} == {f"{name}:{COMMIT}" for name in ("api", "steps", "mlflow")}
    assert '"image": "mlops-dags/' not in text
    settings = [each["data"] for each in installed if each["metadata"]["name"] == "mlops-settings"]
    assert {each["MLOPS_STEP_IMAGE"] for each in settings} == {f"{registry}/steps"}


def test_settings_name_services_that_are_installed(installed: list[Manifest]) -> None:
    """Those of the namespace itself; the monitoring's come from its chart."""
    services = {each["metadata"]["name"] for each in installed if each["kind"] == "Service"}
    services |= {f"{each['metadata']['name']}-kafka-bootstrap" for each in installed if each["kind"] == "Kafka"}
    lines = (ROOT / "deploy/platform/settings.env").read_text().splitlines()
    hosts = {
        found[1] for line in lines if (found := re.fullmatch(r"MLOPS_\w+=(?:https?://|redis://)?([a-z-]+):\d.*", line))
    }
    assert {"inbox", "mlflow", "mlops-kafka-bootstrap", "model-api-redis"} <= hosts
    assert hosts <= services


def test_an_environment_without_a_commit_is_refused() -> None:
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    chart = TREE.argocd / "applications"
    command = ["helm", "template", "x", str(chart), "--set", "repository=https://example.org/x.git"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "image.tag is empty: CI writes the commit" in done.stderr


def test_chart_repositories_are_those_of_the_charts() -> None:
    permitted = yaml.safe_load((TREE.argocd / "root/values.yaml").read_text())["chartRepositories"]
    assert set(permitted) == {TREE.pins[name]["repository"] for name in TREE.third_party()}


def test_the_repository_is_named_in_one_place_of_each_tool() -> None:
    files = [
        str(file.relative_to(ROOT))
        for folder in ("deploy", "helm-values", ".github")
        for file in sorted((ROOT / folder).rglob("*"))
        if file.is_file() and file.suffix != ".pyc" and "github.com/your-org/" in file.read_text(errors="replace")
    ]
    assert files == ["deploy/argocd/root/values.yaml", "deploy/terraform/example.tfvars"]


@pytest.mark.parametrize("file", sorted((ROOT / "helm-values").glob("*.yaml")), ids=lambda file: file.name)
def test_a_version_in_a_comment_is_the_one_that_is_installed(file: Path) -> None:
    first = " ".join(line.lstrip("# ") for line in file.read_text().splitlines()[:4])
    for chart, version in re.findall(r"[a-z-]+/([a-z-]+),? (?:--version )?(\d+\.\d+\.\d+)", first):
        assert TREE.pins[chart]["version"] == version


# --- Kafka


def test_topics_are_those_of_the_settings() -> None:
    topics = list(yaml.safe_load_all((ROOT / "deploy/kafka/one-broker/topics.yaml").read_text()))
    fields = Settings.model_fields
    names = {fields[name].default for name in ("transactions_topic", "predictions_topic", "dead_letter_topic")}
    assert {topic["metadata"]["name"] for topic in topics} == names
    wanted = yaml.safe_load((ROOT / "deploy/charts/scorer/values.yaml").read_text())["topics"]
    assert {topic["spec"]["partitions"] for topic in topics} == {wanted["partitions"]}


def test_the_bootstrap_service_is_the_one_that_is_used(applications: dict[str, Manifest]) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kafka/one-broker/kafka.yaml").read_text())
    kafka = next(each for each in documents if each["kind"] == "Kafka")
    listener = kafka["spec"]["kafka"]["listeners"][0]
    address = f"{kafka['metadata']['name']}-kafka-bootstrap:{listener['port']}"
    assert applications["scorer"]["spec"]["source"]["helm"]["valuesObject"]["kafka"]["bootstrap"] == address
    settings = (ROOT / "deploy/platform/settings.env").read_text()
    assert f"MLOPS_KAFKA_BOOTSTRAP={address}" in settings


# --- skaffold


SKAFFOLD = list(yaml.safe_load_all((ROOT / "skaffold.yaml").read_text()))


def releases(profile: str) -> dict[str, dict[str, Any]]:
    return {
        release["name"]: release
        for document in SKAFFOLD
        for each in document["profiles"]
        if each["name"] == profile
        for release in each["deploy"]["helm"]["releases"]
    }


def test_development_redeploys_the_application_only() -> None:
    assert set(releases("development")) == {"model-api", "scorer"}
    profiles = [each for document in SKAFFOLD for each in document["profiles"] if each["name"] == "development"]
    assert all("manifests" not in each and "kubectl" not in each["deploy"] for each in profiles)


def test_production_deploys_everything_that_argo_cd_does(applications: dict[str, Manifest]) -> None:
    made_once = {"platform", "storage", "external-secrets", "secrets-mlops", "secrets-airflow", "secrets-monitoring"}
    folders = {
        Path(path).name
        for document in SKAFFOLD
        for each in document["profiles"]
        for path in each.get("manifests", {}).get("kustomize", {}).get("paths", [])
    }
    names = {name.replace("kube-prometheus-stack", "monitoring") for name in releases("production")}
    assert names | folders == set(applications) - made_once


def test_skaffold_s_charts_are_the_pinned_ones() -> None:
    remote = [each for each in releases("production").values() if "remoteChart" in each]
    assert len(remote) == 4
    for release in remote:
        assert TREE.pins[release["remoteChart"]] == {"repository": release["repo"], "version": release["version"]}


def test_skaffold_names_files_that_exist_and_images_that_are_built() -> None:
    for release in [*releases("development").values(), *releases("production").values()]:
        given = [release.get("chartPath"), *release.get("valuesFiles", []), *release.get("setFiles", {}).values()]
        assert all((ROOT / name).exists() for name in given if name)
    application = SKAFFOLD[-1]
    production = next(each for each in application["profiles"] if each["name"] == "production")
    for artifacts, profile in ((application["build"], "development"), (production["build"], "production")):
        built = {each["image"]: each["docker"]["target"] for each in artifacts["artifacts"]}
        stages = re.findall(r"(?m)^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text())
        assert set(built.values()) <= set(stages)
        used = re.findall(r"IMAGE_REPO_(\w+)", json.dumps(releases(profile)))
        assert set(used) <= {re.sub(r"\W", "_", image) for image in built}


# --- workflows


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, body in workflow["jobs"].items():
            yield f"{name}.{job}", body


def test_a_workflow_may_read_and_nothing_else() -> None:
    """What writes says so itself, job by job."""
    assert all(workflow["permissions"] == {"contents": "read"} for workflow in WORKFLOWS.values())
    writes = {
        name: sorted(right for right, level in body.get("permissions", {}).items() if level == "write")
        for name, body in jobs()
    }
    assert {name: rights for name, rights in writes.items() if rights} == {
        "images.build": ["packages"],
        "images.development": ["contents"],
        "release.release": ["contents"],
    }


def test_every_job_ends_and_every_workflow_knows_of_itself() -> None:
    assert all("timeout-minutes" in body for _, body in jobs())
    assert all("concurrency" in workflow for workflow in WORKFLOWS.values())


def test_actions_are_pinned_to_a_major_version() -> None:
    used = [step["uses"] for _, body in jobs() for step in body["steps"] if "uses" in step]
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", each)] == []


def test_nothing_of_an_event_is_pasted_into_a_shell() -> None:
    """Only through the environment: a branch may be called anything."""
    for _, body in jobs():
        for step in body["steps"]:
            assert not re.search(r"\$\{\{\s*(github\.event|inputs|github\.head_ref)", step.get("run", ""))


def test_every_image_is_built_scanned_and_published() -> None:
    build = WORKFLOWS["images"]["jobs"]["build"]
    targets = set(build["strategy"]["matrix"]["target"])
    chart_images = {"api", "steps", "spark"}
    assert targets == chart_images | {"airflow", "mlflow"}
    steps = [step.get("name", step.get("uses", "")).split("@")[0].split(",")[0] for step in build["steps"]]
    assert steps.index("build") < steps.index("scan") < steps.index("publish")
    published = next(step["with"] for step in build["steps"] if step.get("name", "").startswith("publish"))
    assert published["sbom"] == "true"


def test_release_follows_only_after_every_dag_has_run() -> None:
    workflow = WORKFLOWS["release"]
    assert workflow["jobs"]["release"]["needs"] == "dags"
    commands = " ".join(step.get("run", "") for step in workflow["jobs"]["dags"]["steps"])
    files = [ROOT / name for name in re.findall(r"tests/\S+\.py", commands)]
    ran = "".join(file.read_text() for file in files)
    if "make drill" in commands:
        ran += (ROOT / "include/local/demo_drill.py").read_text()
    for dag in sorted((ROOT / "dags").glob("*.py")):
        assert re.search(rf'(?:\.test\(|DRILL = )"{dag.stem}"', ran), f"{dag.stem} is run by nothing before a release"
    pushes = [step["run"] for step in workflow["jobs"]["release"]["steps"] if "run" in step]
    assert pushes[-1] == 'git push origin "$COMMIT:refs/heads/release"'


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a remote of its own."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "remote.git")
    git(tmp_path, "clone", "--quiet", "remote.git", "clone")
    folder = tmp_path / "clone"
    shutil.copytree(TREE.argocd / "environments", folder / "deploy/argocd/environments")
    git(folder, "checkout", "--quiet", "-b", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    git(folder, "push", "--quiet", "origin", "main")
    return folder


def set_tag(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "set-image-tag"), *arguments]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=60)


def tag_on(clone: Path, branch: str, environment: str) -> str:
    git(clone, "fetch", "--quiet", "origin", branch)
    text = git(clone, "show", f"FETCH_HEAD:deploy/argocd/environments/{environment}.image.yaml")
    return yaml.safe_load(text)["image"]["tag"]


def test_a_tag_reaches_its_branch(clone: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    for environment, branch in (("development", "main"), ("production", "production")):
        done = set_tag(clone, environment, commit, branch)
        assert done.returncode == 0, done.stderr
        assert tag_on(clone, branch, environment) == commit
    assert tag_on(clone, "production", "development") == ""
    before = git(clone, "rev-parse", "origin/main")
    assert set_tag(clone, "development", commit, "main").returncode == 0
    git(clone, "fetch", "--quiet")
    assert git(clone, "rev-parse", "origin/main") == before, "the same tag again is no commit"


def test_a_push_in_between_is_no_obstacle(clone: Path) -> None:
    first = git(clone, "rev-parse", "HEAD")
    (clone / "other").write_text("somebody else's")
    git(clone, "add", "other")
    git(clone, "commit", "--quiet", "--message", "second")
    git(clone, "push", "--quiet", "origin", "main")
    git(clone, "reset", "--quiet", "--hard", first)
    assert set_tag(clone, "development", first, "main").returncode == 0
    assert tag_on(clone, "main", "development") == first
    assert git(clone, "show", "FETCH_HEAD:other") == "somebody else's"


def test_production_gets_what_is_released_with_its_tag(clone: Path) -> None:
    first = git(clone, "rev-parse", "HEAD")
    assert set_tag(clone, "production", first, "production").returncode == 0
    git(clone, "checkout", "--quiet", "main")
    (clone / "deploy/argocd/environments/production.yaml").write_text("kafka: three-brokers\n")
    git(clone, "commit", "--quiet", "--all", "--message", "second")
    git(clone, "push", "--quiet", "origin", "main")
    second = git(clone, "rev-parse", "HEAD")
    assert set_tag(clone, "production", second, "production").returncode == 0
    assert tag_on(clone, "production", "production") == second
    assert git(clone, "show", "FETCH_HEAD:deploy/argocd/environments/production.yaml") == "kafka: three-brokers"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("staging", "HEAD", "main"), "staging is no environment"), (("production", "main", "main"), "main is no commit")],
)
def test_a_wrong_tag_is_refused(clone: Path, arguments: tuple[str, ...], said: str) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    done = set_tag(clone, *(commit if each == "HEAD" else each for each in arguments))
    assert done.returncode == 2
    assert said in done.stderr


def test_all_images_of_a_commit_have_the_same_bases(tmp_path: Path) -> None:
    if not shutil.which("jq"):
        pytest.skip("jq is not on PATH")
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho \'{"digest": "sha256:abc"}\'\n')
    docker.chmod(0o755)
    file = tmp_path / "Dockerfile"
    file.write_text(
        "FROM python:3.11 AS base\nFROM base AS api\nFROM redis:7@sha256:def AS redis\nFROM python:3.11 AS x\n"
    )
    done = subprocess.run(
        [str(SCRIPTS / "base-digests"), str(file)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["python:3.11=docker-image://python:3.11@sha256:abc"], done.stderr


def test_servers_of_the_workflows_are_those_of_ci() -> None:
    packages = set(re.findall(r"[a-z][a-z0-9-]+", (SCRIPTS / "install-servers").read_text().split("recommends")[1]))
    wanted = set(re.findall(r"missing\+=\(([a-z0-9-]+)\)", (ROOT / ".ci/run").read_text()))
    on_every_runner = {"make", "git", "python3", "python3-venv"}
    assert wanted - on_every_runner <= packages


# --- Renovate


RENOVATE = json.loads((ROOT / ".github/renovate.json").read_text())


def test_renovate_sees_every_pin() -> None:
    """Its own patterns, applied to the files they are for."""
    found: dict[str, str] = {}
    for manager in RENOVATE["customManagers"]:
        for pattern in manager["managerFilePatterns"]:
            files = [name for name in _files() if re.search(pattern.strip("/"), name)]
            assert files, pattern
            for name in files:
                for expression in manager["matchStrings"]:
                    for match in re.finditer(expression.replace("(?<", "(?P<"), (ROOT / name).read_text()):
                        found[match["depName"]] = match["currentValue"]
    pins = {name: pin["version"] for name, pin in TREE.pins.items()}
    assert pins.items() <= found.items()
    assert {"github.com/rhysd/actionlint", "github.com/yannh/kubeconform", "kubernetes-validate", "uv"} <= set(found)


def _files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_renovate_covers_what_there_is() -> None:
    managers = set(RENOVATE["enabledManagers"])
    assert {"pip-compile", "dockerfile", "github-actions", "terraform", "custom.regex"} <= managers


# --- documents


def test_the_page_of_rights_is_right_about_our_own(installed: list[Manifest]) -> None:
    """`make lint-deploy NAME=rights` compares all of it, where the charts can be had."""
    accounts = accounts_of(("mlops", each) for each in installed)
    assert {"model-api-rollout", "mlops-steps", "scorer"} <= {name for _, name in accounts}
    page = (ROOT / "docs/rbac.md").read_text()
    assert [each for each in disagreements(page, accounts) if each.startswith("mlops: ")] == []
    assert disagreements(page.replace("(model-api): get, patch<br>", "(model-api): get<br>"), accounts)
