"""The programs that the checks run, and where they come from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Compiled by Go where it is installed: nothing else needs to be put on the machine for them.
GO_MODULES = {
    "actionlint": "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1",
}
HOW_TO_GET = {
    "helm": "https://helm.sh/docs/intro/install, 3.19 or newer",
    "terraform": "https://developer.hashicorp.com/terraform/install, 1.11 or newer",
    "promtool": "apt-get install prometheus",
    "amtool": "apt-get install prometheus-alertmanager",
    "hadolint": "make .venv/.synced",
    "shellcheck": "make .venv/.synced",
    "uv": "make .venv/.synced",
    **{
        name: f"go install {module} (or install Go, and it is compiled by itself)"
        for name, module in GO_MODULES.items()
    },
}
# What programs that fetch say when a name is not known or nobody answers.
NO_NETWORK = (
    "no such host",
    "could not resolve",
    "dns error",
    "connection refused",
    "network is unreachable",
    "i/o timeout",
    "name resolution",
    "error sending request",
    "failed to query available provider packages",
    "could not connect to registry",
)


Done = subprocess.CompletedProcess[str]


class Missing(Exception):
    """A program is not on this machine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not on PATH; get it: {HOW_TO_GET[name]}")


class NotChecked(Exception):
    """What the check needs cannot be reached from here; says why."""


def program(name: str, cache: Path) -> str:
    """Path of a program: that of the virtual environment, of PATH, or compiled into `cache`."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found:
        return found
    if name not in GO_MODULES:
        raise Missing(name)
    module = GO_MODULES[name]
    built = cache / "bin" / module.rpartition("@")[2] / name
    if built.exists():
        return str(built)
    if not shutil.which("go"):
        raise Missing(name)
    made = run(["go", "install", module], env={"GOBIN": str(built.parent), "GOFLAGS": "-mod=mod"})
    if made.returncode:
        raise NotChecked(f"{module} could not be compiled: {last_line(made)}")
    return str(built)


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
    """Run to the end; what it said is in stdout, both streams together."""
    environment = {**os.environ, **(env or {})}
    # A file named there but not there makes terraform complain about everything.
    if not Path(environment.get("TF_CLI_CONFIG_FILE", "/")).exists():
        del environment["TF_CLI_CONFIG_FILE"]
    return subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )


def complaints(done: Done, about: str = "", *, network: bool = False) -> list[str]:
    """What a program that failed said; nothing when it was content.

    With `network`, of a program that fetches: when nobody answers, that is no fault of the tree's.
    """
    if not done.returncode:
        return []
    said = done.stdout.strip() or f"{done.args[0]} ended with {done.returncode}"
    if network and any(words in said.lower() for words in NO_NETWORK):
        raise NotChecked(last_line(done))
    return [f"{about}: {said}" if about else said]


def last_line(done: Done) -> str:
    """The line of what it said that names the reason, shortened."""
    lines = [line.strip(" │╷╵") for line in done.stdout.splitlines() if line.strip(" │╷╵")] or ["no word"]
    reasons = [line for line in lines if any(words in line.lower() for words in NO_NETWORK)]
    return (reasons or lines)[-1][:300]


def helm(cache: Path, *arguments: str) -> Done:
    """One helm command."""
    return run([program("helm", cache), *arguments])


def report_as_json(rows: list[dict[str, object]], file: Path) -> None:
    """The table, for a program to read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=2) + "\n")
