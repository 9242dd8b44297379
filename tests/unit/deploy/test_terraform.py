"""Terraform's variables refuse what they must, judged by Terraform itself; no provider is needed for that."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/terraform"
VARIABLES = (FOLDER / "variables.tf").read_text()
TEXT = "".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("terraform"):
        pytest.skip("terraform is not on PATH: https://developer.hashicorp.com/terraform/install, 1.11 or newer")
    # A file that is named there but not there makes it complain about everything.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CLI_CONFIG_FILE"}
    command = ["terraform", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def validations(folder: Path, variables: str) -> subprocess.CompletedProcess[str]:
    """The tests of the validations, on the variables alone: without resources there are no providers to fetch."""
    (folder / "tests").mkdir()
    (folder / "variables.tf").write_text(variables)
    tests = (FOLDER / "tests/validations.tftest.hcl").read_text()
    (folder / "tests/validations.tftest.hcl").write_text(re.sub(r"(?m)^mock_provider .*\n", "", tests))
    ready = terraform(folder, "init", "-backend=false", "-input=false")
    assert ready.returncode == 0, ready.stdout + ready.stderr
    return terraform(folder, "test", "-no-color")


def test_validations(tmp_path: Path) -> None:
    done = validations(tmp_path, VARIABLES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 passed, 0 failed" in done.stdout


CONDITION = re.compile(r"(?ms)^(    condition) += .*?(?=^    error_message)")


@pytest.mark.parametrize("number", range(len(CONDITION.findall(VARIABLES))))
def test_each_validation_would_be_missed(number: int, tmp_path: Path) -> None:
    """With a condition that is always true in its place, a test fails."""
    found = list(CONDITION.finditer(VARIABLES))[number]
    name = re.findall(r'(?m)^variable "(\w+)"', VARIABLES[: found.start()])[-1]
    blunt = f"{VARIABLES[: found.start()]}    condition = var.{name} == var.{name}\n{VARIABLES[found.end() :]}"
    done = validations(tmp_path, blunt)
    assert done.returncode == 1
    assert f"var.{name}, was expected to report an error" in done.stdout + done.stderr


def test_every_variable_is_described_and_typed() -> None:
    blocks = re.findall(r'(?ms)^variable "(\w+)" \{(.*?)^\}', VARIABLES)
    assert len(blocks) >= 7
    for name, block in blocks:
        assert re.search(r'^  description\s+= "\w', block, re.MULTILINE), name
        assert re.search(r"^  type\s+= \w", block, re.MULTILINE), name


def test_every_variable_is_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    for name in re.findall(r'(?m)^variable "(\w+)"', VARIABLES):
        assert f"`{name}`" in readme, name


def test_every_output_is_described() -> None:
    blocks = re.findall(r'(?ms)^output "(\w+)" \{(.*?)^\}', (FOLDER / "outputs.tf").read_text())
    assert blocks
    assert all("description" in block for _, block in blocks)


def test_versions_are_pinned_to_the_digit() -> None:
    versions = re.findall(r'(?m)^\s+version\s+= "(.*)"', (FOLDER / "versions.tf").read_text())
    assert len(versions) == 2
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


def test_what_is_used_is_declared() -> None:
    """What `terraform validate` would find first; that needs the providers."""
    used = set(re.findall(r"\bvar\.(\w+)", TEXT))
    assert used == set(re.findall(r'(?m)^variable "(\w+)"', TEXT))
    resources = set(re.findall(r'(?m)^resource "(\w+)" "(\w+)"', TEXT))
    mentioned = set(re.findall(r"\b((?:kubernetes|helm)_\w+)\.(\w+)", TEXT))
    assert mentioned <= resources
    assert set(re.findall(r"\blocal\.(\w+)", TEXT)) <= set(re.findall(r"(?m)^  (\w+)\s+= ", TEXT))


def test_argo_cd_s_version_is_that_of_the_other_charts() -> None:
    values = yaml.safe_load((ROOT / "deploy/argocd/applications/values.yaml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", values["charts"]["argo-cd"]["version"])
    assert "argocd/applications/values.yaml" in (FOLDER / "argocd.tf").read_text()


@pytest.mark.parametrize("namespaces", ["namespaces.tf", "variables.tf"])
def test_namespaces_are_those_of_argo_cd(namespaces: str) -> None:
    """What Argo CD may install into is made here, with quotas for no other."""
    permitted = set(yaml.safe_load((ROOT / "deploy/argocd/root/values.yaml").read_text())["namespaces"])
    text = (FOLDER / namespaces).read_text()
    found = re.search(r'\["(?:argocd", ")?mlops".*?\]', text)
    assert found
    assert set(re.findall(r'"([a-z-]+)"', found[0])) - {"argocd"} == permitted
