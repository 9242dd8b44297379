"""`make lint-deploy`: each check passes on the tree and finds a mistake that is planted in a copy of it."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.lint import __main__ as command
from deploy.lint.charts import Tree
from deploy.lint.checks import CHECKS
from deploy.lint.pods import outside
from deploy.lint.tools import Missing, NotChecked, complaints, program, run

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build/lint"
FILES = ("Dockerfile", "docker-compose.yaml", ".env.example", "skaffold.yaml")
PARTS = ("deploy", "helm-values", "docs", ".github", ".ci", *FILES)


class Seed(NamedTuple):
    """In `file`, `old` becomes `new`; a complaint must then say `found`."""

    check: str
    file: str
    old: str
    new: str
    found: str


KPS = "helm-values/kube-prometheus-stack.yaml"
AIRFLOW = "helm-values/airflow.yaml"
KAFKA = "deploy/kafka/one-broker"
API = "deploy/charts/model-api"
ARGOCD = "deploy/argocd"
PROJECTS = f"{ARGOCD}/root/templates/projects.yaml"
STATEFUL_SET = "    - {group: apps, kind: StatefulSet}\n"
VARIABLES = "deploy/terraform/variables.tf"
SEEDS = [
    Seed("helm-lint", f"{API}/values.yaml", "minReplicas: 4", "minReplicas: four", "minReplicas"),
    Seed(
        "helm-template", "deploy/charts/scorer/templates/pdb.yaml", '"scorer.fullname"', '"scorer.name"', "scorer.name"
    ),
    Seed("kustomize", f"{KAFKA}/kustomization.yaml", "topics.yaml", "topic.yaml", "topic.yaml"),
    Seed("manifests", "deploy/storage/backup-pvc.yaml", "accessModes", "accesModes", "accesModes"),
    Seed("manifests", f"{API}/templates/api-hpa.yaml", "maxReplicas: {", "maxReplica: {", "maxReplica"),
    Seed("custom-resources", f"{KAFKA}/kafka.yaml", "[controller, broker]", "[controler, broker]", "/spec/roles/0"),
    Seed("custom-resources", f"{KAFKA}/topics.yaml", "partitions: 6", "partition: 6", "'partition'"),
    Seed("custom-resources", "deploy/secrets/mlops/mlops.yaml", "dataFrom", "dataFroms", "dataFroms"),
    Seed("custom-resources", f"{ARGOCD}/applications/templates/_application.tpl", "selfHeal", "selfHeals", "selfHeals"),
    Seed("custom-resources", PROJECTS, "sourceRepos", "sourceRepo", "'sourceRepo'"),
    Seed("custom-resources", "deploy/rules/alerts.yaml", "    rules:", "    rule:", "'rule'"),
    Seed("custom-resources", f"{API}/templates/api-servicemonitor.yaml", "interval:", "intervall:", "intervall"),
    Seed("third-party-charts", AIRFLOW, "useHelmHooks: false", "useHelmHooks: never", "useHelmHooks"),
    Seed("third-party-charts", AIRFLOW, "logGroomerSidecar", "logGroomersSidecar", "logGroomersSidecar"),
    Seed("third-party-charts", "helm-values/airflow-git-bundle.yaml", "classpath:", "classpaths:", "classpaths"),
    Seed("third-party-charts", KPS, "retention: 15d", "retention: 15 days", "retention"),
    Seed("third-party-charts", "deploy/terraform/argo-cd.yaml", "memory: 384Mi", "memory: [384]", "memory"),
    Seed(
        *("pod-security", "helm-values/prometheus-pushgateway.yaml"),
        *(
            "allowPrivilegeEscalation: false",
            "allowPrivilegeEscalation: true",
            "pushgateway may escalate",
        ),
    ),
    Seed("value-names", KPS, "retentionSize", "retentionsSize", "retentionsSize"),
    Seed("value-names", KPS, "defaultDashboardsEnabled", "defaultDashboards", "grafana.defaultDashboards "),
    Seed("permitted-kinds", PROJECTS, STATEFUL_SET, "", "StatefulSet (apps) is installed, but"),
    Seed("permitted-kinds", PROJECTS, "kind: StatefulSet", "kind: DaemonSet", "DaemonSet (apps) is permitted, but"),
    Seed(
        "rights",
        f"{API}/templates/rollout-rbac.yaml",
        "[get, patch]",
        "[get, patch, delete]",
        "delete, get, patch`, and the",
    ),
    Seed("rights", "docs/rbac.md", "`airflow-cleanup`", "`airflow-cleaner`", "has no account airflow-cleaner"),
    Seed("rights", "docs/rbac.md", "events: list, watch<br>", "", "may `in airflow: events: list, watch`"),
    Seed("workflows", ".github/workflows/ci.yaml", "runs-on: ubuntu-24.04", "runs-on: ubuntu-24.4", "ubuntu-24.4"),
    Seed("workflows", ".github/workflows/release.yaml", '"$COMMIT:refs', '"x" $COMMIT":refs', "SC2086"),
    Seed("shell", ".github/scripts/set-image-tag", '-- "$file" ||', "-- $file ||", "SC2086"),
    Seed("terraform-format", VARIABLES, "type        =", "type =", "type"),
    Seed("terraform-validate", "deploy/terraform/accounts.tf", "var.identities", "var.identites", "identites"),
    Seed("terraform-test", VARIABLES, '["development", ', '["staging", "development", ', "no_third_environment"),
    Seed("rules", "deploy/rules/alerts.yaml", "vector(1)", "vector(1", "Watchdog"),
    Seed("routing", "deploy/alertmanager/alertmanager.yaml", "  receiver: team", "  receiver: teams", "teams"),
    Seed("dockerfile", "Dockerfile", "\nFROM base AS api\n", "\nFROM debian AS api\n", "DL3006"),
    Seed("compose", "docker-compose.yaml", "\nservices:", "\nservics:", "servics"),
    Seed("skaffold", "skaffold.yaml", "chartPath:", "chartsPath:", "chartsPath"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A copy to plant mistakes in; what was fetched and compiled is shared."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "secrets.d"))
        elif source.exists():
            shutil.copy(source, tmp_path / part)
    (tmp_path / ".uv").symlink_to(ROOT / ".uv")
    CACHE.mkdir(parents=True, exist_ok=True)
    return Tree(tmp_path, CACHE)


def judged(check: str, tree: Tree) -> tuple[str, str]:
    verdict, said = command.judge(check, tree)
    text = "\n".join(said)
    # What needs no more than the virtual environment and Debian's packages is never left out in CI.
    if verdict == command.MISSING and os.environ.get("CI") and check in ("rules", "routing", "dockerfile", "shell"):
        pytest.fail(text, pytrace=False)
    if verdict in (command.MISSING, command.NOT_CHECKED):
        pytest.skip(text)
    return verdict, text


def test_every_check_has_a_seed() -> None:
    assert {seed.check for seed in SEEDS} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_the_tree_passes(check: str) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    assert judged(check, Tree(ROOT, CACHE)) == (command.PASSED, "")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.check}: {seed.new.strip() or seed.found}")
def test_a_planted_mistake_is_found(seed: Seed, tree: Tree) -> None:
    file = tree.root / seed.file
    text = file.read_text()
    assert seed.old in text, f"{seed.file} has no {seed.old!r} any more: plant something else"
    file.write_text(text.replace(seed.old, seed.new))
    verdict, said = judged(seed.check, tree)
    assert verdict == command.FAILED
    assert seed.found in said


def test_a_program_that_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=r"helm is not on PATH; get it: https://"):
        program("helm", tmp_path)
    with pytest.raises(Missing, match="install Go"):
        program("kubeconform", tmp_path)


def exit_code(monkeypatch, capsys, check, *flags: str) -> tuple[int, str]:
    monkeypatch.setattr(command, "CHECKS", {"only": check})
    monkeypatch.setattr(command, "report_as_json", lambda rows, file: None)
    return command.main(list(flags)), capsys.readouterr().out


def test_exit_codes(monkeypatch, capsys) -> None:
    def missing(tree: Tree) -> list[str]:
        raise Missing("helm")

    def away(tree: Tree) -> list[str]:
        raise NotChecked("nobody answers")

    assert exit_code(monkeypatch, capsys, lambda tree: [])[0] == 0
    assert exit_code(monkeypatch, capsys, lambda tree: ["wrong"])[0] == 1
    code, said = exit_code(monkeypatch, capsys, missing)
    assert (code, "https://helm.sh" in said) == (2, True)
    code, said = exit_code(monkeypatch, capsys, away)
    assert (code, "not checked" in said, "nobody answers" in said) == (0, True, True)
    assert exit_code(monkeypatch, capsys, away, "--strict")[0] == 1


def test_many_complaints_are_cut(monkeypatch, capsys) -> None:
    _, said = exit_code(monkeypatch, capsys, lambda tree: [f"line {number}" for number in range(100)])
    assert "line 29" in said
    assert "line 30" not in said
    assert "70 lines more" in said


def test_a_network_that_is_away_is_not_the_tree_s_fault() -> None:
    away = run(["sh", "-c", "echo 'lookup registry.example.org: no such host'; exit 1"])
    with pytest.raises(NotChecked, match="no such host"):
        complaints(away, network=True)
    assert complaints(away) == ["lookup registry.example.org: no such host"], "a program that fetches nothing"
    wrong = run(["sh", "-c", "echo wrong; exit 1"])
    assert complaints(wrong, "file", network=True) == ["file: wrong"]
    assert complaints(run(["true"])) == []


GOOD = {
    "name": "good",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


def pod(spec: dict | None = None, **context) -> dict:
    container = GOOD | {"securityContext": GOOD["securityContext"] | context}
    return {"kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container], **(spec or {})}}


@pytest.mark.parametrize(
    ("manifest", "breach"),
    [
        (pod({"hostNetwork": True}), "hostNetwork is set"),
        (pod({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}), "volume node is a hostPath"),
        (pod({"initContainers": [{"name": "first"}]}), "container first may run as root"),
        (pod(privileged=True), "container good may escalate its privileges"),
        (pod(capabilities={}), "container good keeps capabilities"),
        (pod(runAsUser=0), "container good may run as root"),
        (pod(seccompProfile={"type": "Unconfined"}), "container good has no seccomp profile"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_restricted_forbids_is_seen(manifest: dict, breach: str) -> None:
    assert breach in list(outside(manifest))
    assert list(outside(pod())) == []
