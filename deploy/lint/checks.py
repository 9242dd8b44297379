"""Each check: what it is given is a tree, what it returns are its complaints. An empty list is a pass."""

import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

from deploy.lint import schemas
from deploy.lint.charts import COMMIT, ENVIRONMENTS, Manifest, Refused, Tree, documents, reachable
from deploy.lint.pods import outside
from deploy.lint.rights import accounts_of, disagreements
from deploy.lint.tools import NotChecked, complaints, helm, program, run

# What each own chart must be given, and the values with which its other branches render.
TAG = f"image.tag={COMMIT}"
OWN_CHARTS: dict[str, dict[str, list[str]]] = {
    "deploy/charts/model-api": {
        "least": ["--set-string", TAG, "--set", "model.version=1"],
        "most": [
            *("--set-string", TAG, "--set", "model.version=1", "--set", "redis.existingSecret=mlops-secrets"),
            *("--set", "ingress.enabled=true,ingress.host=api.example.org,ingress.tlsSecret=api"),
            *("--set", "serviceMonitor.enabled=true,prometheusRule.enabled=true"),
        ],
    },
    "deploy/charts/scorer": {
        "python": ["--set-string", TAG, "--set", "scorer.replicas=2,podMonitor.enabled=true"],
        "spark-job": ["--set-string", TAG, "--set", "engine=spark-job"],
        "spark-application": ["--set-string", TAG, "--set", "engine=spark-application"],
    },
    "deploy/argocd/root": {environment: ["--set", f"environment={environment}"] for environment in ENVIRONMENTS},
    "deploy/argocd/applications": {
        environment: [
            *("-f", f"deploy/argocd/environments/{environment}.yaml"),
            *("--set-string", f"{TAG},repository=https://example.org/mlops-dags.git,revision=main"),
        ]
        for environment in ENVIRONMENTS
    },
    "deploy/argocd/rules": {
        "files": [
            *("--set-file", "alerts=deploy/rules/alerts.yaml,recording=deploy/rules/recording-kubernetes.yaml"),
            *("--set-file", "routing=deploy/alertmanager/alertmanager.yaml"),
            *("--set-file", "dashboard=deploy/dashboards/model-api.json"),
        ]
    },
}
# Folders of deploy/ that hold no Kubernetes objects, or hold them as templates.
NO_MANIFESTS = ("charts", "argocd", "rules", "alertmanager", "dashboards", "terraform", "lint", "compose")
# What charts hand on as it is: parts of a pod, which Kubernetes' schema judges (third-party-charts), and settings.
HANDED_ON = ("securityContext", "containerSecurityContext", "podSecurityContext", "resources", "cm", "params")
SKAFFOLD_SCHEMA = (
    "https://raw.githubusercontent.com/GoogleContainerTools/skaffold/v2.24.0/docs-v2/content/en/schemas/{}.json"
)
# hadolint's rules that do not fit, each with the reason.
NOT_OURS = {
    "DL3045": "stages that only build work in the root folder; images get from there what is copied by name",
    "DL3008": "a version of a Debian package is gone from the mirrors with its next fix",
}


def _argo_cd(tree: Tree) -> Path:
    """The values with which Terraform installs Argo CD."""
    return tree.root / "deploy/terraform/argo-cd.yaml"


def _in(tree: Tree, arguments: list[str]) -> list[str]:
    """Paths among the arguments, as they are from elsewhere."""
    return [part.replace("deploy/", f"{tree.root}/deploy/") for part in arguments]


def helm_lint(tree: Tree) -> list[str]:
    """Own charts, with each set of values."""
    found = []
    for chart, cases in OWN_CHARTS.items():
        for name, flags in cases.items():
            done = helm(tree.cache, "lint", "--strict", "--quiet", *_in(tree, [chart, *flags]))
            found += complaints(done, f"{chart}, {name}")
    return found


def helm_template(tree: Tree) -> list[str]:
    """Own charts render with each set of values, and the Applications of both environments as Argo CD would."""
    found = []
    for chart, cases in OWN_CHARTS.items():
        for name, flags in cases.items():
            try:
                tree.template("name", *_in(tree, [chart, *flags]))
            except Refused as error:
                found.append(f"{chart}, {name}: {error}")
    found += of_applications(tree, own=True)[1]
    return found


def kustomize(tree: Tree) -> list[str]:
    """Every folder with a kustomization builds."""
    found = []
    for file in sorted((tree.root / "deploy").rglob("kustomization.yaml")):
        try:
            tree.kustomize(file.parent)
        except Refused as error:
            found.append(f"{file.parent.relative_to(tree.root)}: {error}")
    return found


def manifests(tree: Tree) -> list[str]:
    """Built-in kinds, written and rendered, against the schemas of Kubernetes."""
    found, broken = _all_of_ours(tree)
    builtin = {where: [each for each in all_ if _builtin(each)] for where, all_ in found.items()}
    with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
        return broken + schemas.judged(tree, builtin, [schemas.of_kubernetes(tree)], Path(scratch))


def custom_resources(tree: Tree) -> list[str]:
    """Custom resources, against the definitions in the charts that bring them."""
    names = [name for name in tree.pins if name not in ("airflow", "prometheus-pushgateway")]
    reachable(tree, names)
    found, broken = _all_of_ours(tree)
    custom = {where: [each for each in all_ if not _builtin(each)] for where, all_ in found.items()}
    with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
        return broken + schemas.judged(tree, custom, schemas.of_custom_resources(tree, names), Path(scratch))


def third_party(tree: Tree) -> list[str]:
    """Charts of other people with our values: their schema, rendering, and the schema of all that comes out."""
    reachable(tree, list(tree.pins))
    found, broken = of_applications(tree, own=False)
    found |= _by_other_ways(tree)
    # The definitions themselves are their authors' business, and not in the schemas of Kubernetes.
    kept = {
        where: [each for each in all_ if each["kind"] != "CustomResourceDefinition"] for where, all_ in found.items()
    }
    names = [name for name in tree.pins if name not in ("airflow", "prometheus-pushgateway")]
    locations = [schemas.of_kubernetes(tree), *schemas.of_custom_resources(tree, names)]
    with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
        return broken + schemas.judged(tree, kept, locations, Path(scratch))


def pod_security(tree: Tree) -> list[str]:
    """Every pod that Applications and Terraform's Argo CD make keeps Pod Security level "restricted"."""
    reachable(tree, list(tree.pins))
    found, broken = of_applications(tree, own=True)
    more, broken_too = of_applications(tree, own=False)
    more |= _by_other_ways(tree)
    return [
        *broken,
        *broken_too,
        *(
            f"{where}: {each['kind']} {each['metadata']['name']}: {breach}"
            for where, all_ in {**found, **more}.items()
            for each in all_
            for breach in outside(each)
        ),
    ]


def value_names(tree: Tree) -> list[str]:
    """Every key of helm-values/ is one that the chart knows: a chart without a schema takes any other in silence."""
    reachable(tree, list(tree.pins))
    found = []
    for file in [*sorted((tree.root / "helm-values").glob("*.yaml")), _argo_cd(tree)]:
        # airflow-git-bundle is for airflow, strimzi for strimzi-kafka-operator.
        names = [name for name in tree.pins if f"{file.stem}-".startswith(f"{name}-")]
        names += [name for name in tree.pins if name.startswith(f"{file.stem}-")]
        if not names:
            found.append(f"{file.name} is named after none of the charts {', '.join(tree.pins)}")
            continue
        known, text = tree.values_of(names[0])
        if known:
            strangers = _strangers(yaml.safe_load(file.read_text()), known, text, ())
            found += [f"{file.name}: {'.'.join(path)} is no value of {names[0]}" for path in strangers]
    return found


def permitted_kinds(tree: Tree) -> list[str]:
    """The AppProject lets in what the Applications install, and nothing else."""
    reachable(tree, tree.third_party())
    found, broken = of_applications(tree, own=True)
    more, broken_too = of_applications(tree, own=False, definitions=True)
    root = tree.template("mlops", str(tree.argocd / "root"), "--set", "environment=production")
    spec = next(each for each in root if each["kind"] == "AppProject" and each["metadata"]["name"] == "mlops")["spec"]
    permitted = {
        scope: {(each["group"], each["kind"]) for each in spec[f"{scope}ResourceWhitelist"]}
        for scope in ("cluster", "namespace")
    }
    everything = [each for all_ in [*found.values(), *more.values()] for each in all_]
    kinds = {(group_of(each), each["kind"]) for each in everything}
    allowed = permitted["cluster"] | permitted["namespace"]
    return [
        *broken,
        *broken_too,
        *(f"{kind} ({group or 'core'}) is installed, but the AppProject forbids it" for group, kind in kinds - allowed),
        *(f"{kind} ({group or 'core'}) is permitted, but nothing installs it" for group, kind in allowed - kinds),
    ]


def rights(tree: Tree) -> list[str]:
    """docs/rbac.md lists every account and what it may do, as rendered."""
    reachable(tree, list(tree.pins))
    placed: list[tuple[str, Manifest]] = []
    for environment in ENVIRONMENTS:
        with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
            for application in tree.applications(environment, Path(scratch)):
                namespace = application["spec"]["destination"]["namespace"]
                placed += [(namespace, each) for each in tree.rendered(application, Path(scratch))]
    argo_cd = ("argocd", str(tree.chart("argo-cd")), "-n", "argocd", "-f", str(_argo_cd(tree)))
    placed += [("argocd", each) for each in tree.template(*argo_cd)]
    return disagreements((tree.root / "docs/rbac.md").read_text(), accounts_of(placed))


def workflows(tree: Tree) -> list[str]:
    """GitHub's workflows, the shell in them included."""
    files = [str(file) for file in sorted((tree.root / ".github/workflows").glob("*.yaml"))]
    shellcheck = program("shellcheck", tree.cache)
    return complaints(run([program("actionlint", tree.cache), "-no-color", "-shellcheck", shellcheck, *files]))


def shell(tree: Tree) -> list[str]:
    """Shell scripts of the repository, whatever they are called."""
    files = [
        file
        for folder in (".ci", ".github", "deploy")
        for file in sorted((tree.root / folder).rglob("*"))
        if file.is_file() and re.match(rb"#!.*\b(ba)?sh\b", file.read_bytes()[:40])
    ]
    return complaints(run([program("shellcheck", tree.cache), *[str(file) for file in files]]))


def terraform_format(tree: Tree) -> list[str]:
    """Terraform's files are as `terraform fmt` writes them."""
    folder = tree.root / "deploy/terraform"
    done = run([program("terraform", tree.cache), "fmt", "-check", "-diff", "-recursive", "-no-color", str(folder)])
    return complaints(done)


def terraform_validate(tree: Tree) -> list[str]:
    """Terraform's files against the providers' schemas."""
    with _initialised(tree) as folder:
        return complaints(run([program("terraform", tree.cache), "validate", "-no-color"], cwd=folder))


def terraform_test(tree: Tree) -> list[str]:
    """Terraform's own tests, with mocked providers: nothing is created."""
    with _initialised(tree) as folder:
        return complaints(run([program("terraform", tree.cache), "test", "-no-color"], cwd=folder))


def rules(tree: Tree) -> list[str]:
    """Alert and recording rules, as Prometheus reads them."""
    files = sorted((tree.root / "deploy/rules").glob("*.yaml"))
    done = run([program("promtool", tree.cache), "check", "rules", "--lint-fatal", *[str(file) for file in files]])
    return complaints(done)


def routing(tree: Tree) -> list[str]:
    """Alertmanager's configuration, as Alertmanager reads it."""
    file = tree.root / "deploy/alertmanager/alertmanager.yaml"
    return complaints(run([program("amtool", tree.cache), "check-config", str(file)]))


def dockerfile(tree: Tree) -> list[str]:
    """Images are built as hadolint advises, but for what stands in NOT_OURS."""
    files = sorted([*tree.root.glob("Dockerfile*"), *(tree.root / "deploy").rglob("Dockerfile*")])
    flags = [
        "--no-color",
        "--failure-threshold",
        "warning",
        *[part for rule in NOT_OURS for part in ("--ignore", rule)],
    ]
    return [line for file in files for line in complaints(run([program("hadolint", tree.cache), *flags, str(file)]))]


def compose(tree: Tree) -> list[str]:
    """The compose file, as docker compose reads it; no engine is asked."""
    file = tree.root / "docker-compose.yaml"
    docker = shutil.which("docker")
    if not docker or run([docker, "compose", "version"]).returncode:
        raise NotChecked("docker compose is not on this machine")
    example = tree.root / ".env.example"
    environment = ["--env-file", str(example)] if example.exists() else []
    return complaints(run([docker, "compose", *environment, "-f", str(file), "config", "--quiet"]))


def skaffold(tree: Tree) -> list[str]:
    """skaffold.yaml against the schema of its apiVersion."""
    found = []
    for document in yaml.safe_load_all((tree.root / "skaffold.yaml").read_text()):
        version = document["apiVersion"].removeprefix("skaffold/")
        schema = json.loads(_downloaded(SKAFFOLD_SCHEMA.format(version), tree, "LINT_SKAFFOLD_SCHEMA"))
        # The schema is a choice of one: the error that lies deepest says most.
        error = best_match(Draft7Validator(schema).iter_errors(document))
        if error:
            where = ".".join(str(part) for part in error.absolute_path)
            found.append(f"skaffold.yaml, {document['metadata']['name']}: {where}: {error.message[:300]}")
    return found


CHECKS: dict[str, Callable[[Tree], list[str]]] = {
    "helm-lint": helm_lint,
    "helm-template": helm_template,
    "kustomize": kustomize,
    "manifests": manifests,
    "custom-resources": custom_resources,
    "third-party-charts": third_party,
    "pod-security": pod_security,
    "value-names": value_names,
    "permitted-kinds": permitted_kinds,
    "rights": rights,
    "workflows": workflows,
    "shell": shell,
    "terraform-format": terraform_format,
    "terraform-validate": terraform_validate,
    "terraform-test": terraform_test,
    "rules": rules,
    "routing": routing,
    "dockerfile": dockerfile,
    "compose": compose,
    "skaffold": skaffold,
}


def group_of(manifest: Manifest) -> str:
    """API group of a document; empty: Kubernetes' core."""
    group, slash, _ = manifest["apiVersion"].partition("/")
    return group if slash else ""


def _builtin(manifest: Manifest) -> bool:
    group = group_of(manifest)
    return "." not in group or (group.endswith(".k8s.io") and group != "sparkoperator.k8s.io")


def _all_of_ours(tree: Tree) -> tuple[dict[str, list[Manifest]], list[str]]:
    """Everything that is ours: files, kustomizations, charts with all their values; and what did not render."""
    found, broken = of_applications(tree, own=True)
    for chart, cases in OWN_CHARTS.items():
        for name, flags in cases.items():
            try:
                found[f"{chart}, {name}"] = tree.template("name", *_in(tree, [chart, *flags]))
            except Refused as error:
                broken.append(f"{chart}, {name}: {error}")
    for file in sorted((tree.root / "deploy").rglob("*.yaml")):
        where = file.relative_to(tree.root / "deploy").parts
        if where[0] not in NO_MANIFESTS and file.name != "kustomization.yaml":
            found[f"deploy/{'/'.join(where)}"] = documents(file.read_text())
    return found, broken


def of_applications(tree: Tree, *, own: bool, definitions: bool = False) -> tuple[dict[str, list[Manifest]], list[str]]:
    """What the Applications of both environments install, from our files or from charts of other people."""
    found, broken = {}, []
    for environment in ENVIRONMENTS:
        try:
            with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
                applications = tree.applications(environment, Path(scratch))
        except Refused as error:
            broken.append(f"applications of {environment}: {error}")
            continue
        for application in applications:
            spec = application["spec"]
            if own == any("chart" in source for source in spec.get("sources") or [spec["source"]]):
                continue
            where = f"{environment}, {application['metadata']['name']}"
            try:
                with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
                    found[where] = tree.rendered(application, Path(scratch), definitions=definitions)
            except Refused as error:
                broken.append(f"{where}: {error}")
    return found, broken


def _by_other_ways(tree: Tree) -> dict[str, list[Manifest]]:
    """What no Application of the two environments installs: Argo CD itself, and Airflow's other way to its DAGs."""
    values = [str(tree.root / "helm-values" / name) for name in ("airflow.yaml", "airflow-git-bundle.yaml")]
    return {
        "terraform, argo-cd": tree.template("argocd", str(tree.chart("argo-cd")), "-f", str(_argo_cd(tree))),
        "airflow, git bundle": tree.template("airflow", str(tree.chart("airflow")), "-f", values[0], "-f", values[1]),
    }


def _scratch(tree: Tree) -> Path:
    folder = tree.cache / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _strangers(values: Any, known: Any, text: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Paths in `values` that `known` does not have, neither as a comment in `text`; what is empty is for us to fill."""
    if not isinstance(values, dict) or not isinstance(known, dict) or not known:
        return
    if path and path[-1] in HANDED_ON:
        return
    for key, inner in values.items():
        if key in known:
            yield from _strangers(inner, known[key], text, (*path, key))
        elif not re.search(rf"^\s*#+\s*{re.escape(key)}:", text, re.MULTILINE):
            yield (*path, key)


@contextmanager
def _initialised(tree: Tree) -> Iterator[Path]:
    """Terraform's folder, in a copy of what it reads, with its providers: the tree stays as it is."""
    with tempfile.TemporaryDirectory(dir=_scratch(tree)) as scratch:
        shutil.copytree(tree.root / "deploy", Path(scratch) / "deploy")
        folder = Path(scratch) / "deploy/terraform"
        command = [program("terraform", tree.cache), "init", "-backend=false", "-no-color", "-input=false"]
        if found := complaints(run(command, cwd=folder), network=True):
            raise Refused(found[0])
        yield folder


def _downloaded(url: str, tree: Tree, variable: str) -> str:
    """A file of the web, kept once it was read; or the one that the environment variable names."""
    if given := os.environ.get(variable):
        return Path(given).read_text()
    kept = tree.cache / url.rpartition("/")[2]
    if not kept.exists():
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310
                text = answer.read().decode()
        except (urllib.error.URLError, TimeoutError) as error:
            raise NotChecked(f"{url}: {error}; {variable}=<file> is the other way") from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text)
    return kept.read_text()
