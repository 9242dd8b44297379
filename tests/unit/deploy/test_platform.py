"""What is applied before any chart: settings that exist, pods that are locked down, secrets by name only."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from include.code_version import ROOT
from include.settings import Settings
from tests.e2e.chart_policy import offences

FOLDERS = ("platform", "postgresql", "mlflow", "inbox")
VALUES = ROOT / "helm-values"


def documents(folder: str) -> list[dict[str, Any]]:
    files = sorted((ROOT / "deploy" / folder).glob("*.yaml"))
    found = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one]
    return [one for one in found if one["kind"] != "Kustomization"]


def settings_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_every_setting_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt one would be ignored, and the default used."""
    found = settings_of((ROOT / "deploy" / "platform" / "settings.env").read_text())
    known = {f"MLOPS_{name.upper()}" for name in Settings.model_fields}
    assert set(found) <= known, f"not in include/settings.py: {sorted(set(found) - known)}"
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert Settings().lake_uri == found["MLOPS_LAKE_URI"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_locked_down(folder: str) -> None:
    assert offences(documents(folder)) == []


def test_the_check_finds_a_pod_that_is_not() -> None:
    found = documents("postgresql")
    workload = next(one for one in found if one["kind"] == "StatefulSet")
    workload["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert offences(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_secret_stands_in_a_manifest(folder: str) -> None:
    assert [one["kind"] for one in documents(folder) if one["kind"] == "Secret"] == []


def test_a_network_policy_chooses_each_workload() -> None:
    policies = [one for folder in FOLDERS for one in documents(folder) if one["kind"] == "NetworkPolicy"]
    chosen = [one["spec"]["podSelector"].get("matchLabels", {}) for one in policies]
    for folder in FOLDERS:
        for one in documents(folder):
            if one["kind"] in ("Deployment", "StatefulSet"):
                labels = one["spec"]["template"]["metadata"]["labels"]
                assert any(wanted and wanted.items() <= labels.items() for wanted in chosen), one["metadata"]["name"]


def test_both_ways_to_the_dags_follow_the_branch_that_ci_moves() -> None:
    by_sync = yaml.safe_load((VALUES / "airflow.yaml").read_text())["dags"]["gitSync"]
    by_bundle = yaml.safe_load((VALUES / "airflow-git-bundle.yaml").read_text())
    assert (by_sync["ref"], by_sync["branch"], by_sync["subPath"]) == ("release", "release", "")
    assert by_bundle["dags"]["gitSync"]["enabled"] is False
    (bundle,) = by_bundle["dagProcessor"]["dagBundleConfigList"]
    assert bundle["kwargs"]["tracking_ref"] == "release"
    assert "subdir" not in bundle["kwargs"]  # then include/ could not be imported


def test_every_file_of_a_kustomization_is_there() -> None:
    for folder in FOLDERS:
        path: Path = ROOT / "deploy" / folder
        kustomization = yaml.safe_load((path / "kustomization.yaml").read_text())
        for name in kustomization["resources"]:
            assert (path / name).is_file(), name
