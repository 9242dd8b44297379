"""The DAGs, parsed once for each runtime."""

import os
import subprocess
import sys
import tempfile

# Before anything imports Airflow: a home of its own, so that no configuration of the machine is read.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest

from include.code_version import ROOT, code_version
from include.settings import settings

DAGS = ROOT / "dags"


def parse(runtime: str, monkeypatch: pytest.MonkeyPatch) -> dict:
    """All DAGs as they are with MLOPS_RUNTIME=`runtime`."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("MLOPS_RUNTIME", runtime)
    monkeypatch.setenv("MLOPS_CODE_VERSION", "0" * 40)
    settings.cache_clear()
    code_version.cache_clear()
    bag = DagBag(str(DAGS))
    assert not bag.import_errors
    assert len(bag.dags) == len(list(DAGS.glob("*.py"))), "a DAG file without a DAG, or with two"
    return bag.dags


@pytest.fixture(scope="session")
def airflow():
    """The airflow command, on a database of its own: ``airflow("dags", "list", MLOPS_RUNTIME="local")``."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS)} | env
        return subprocess.run(
            [sys.executable, "-m", "airflow", *words], env=environment, capture_output=True, text=True, check=False
        )

    migrated = run("db", "migrate")
    assert migrated.returncode == 0, migrated.stderr
    return run


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    settings.cache_clear()
    code_version.cache_clear()


@pytest.fixture(scope="module")
def dags(module_patch):
    """By name, with steps as child processes."""
    return parse("local", module_patch)


@pytest.fixture(scope="module")
def pod_dags(module_patch):
    """By name, with steps as pods."""
    return parse("kubernetes", module_patch)
