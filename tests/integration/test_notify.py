"""A failed run reaches a real Alertmanager as an alert, and a later success ends it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from include.local.state import any_free_port
from include.pipeline import notify
from include.pipeline.tags import Tag, Tier
from include.settings import settings

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
DAG = SimpleNamespace(dag_id="retrain_model", tags={Tag.MODEL, Tier.TWO})
CONTEXT = {"dag": DAG, "dag_run": SimpleNamespace(dag_id=DAG.dag_id, run_id="scheduled__1"), "reason": "task_failure"}


@pytest.fixture
def alertmanager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if PROGRAM is None:
        if os.environ.get("CI"):
            pytest.fail("Alertmanager is not on PATH (Debian: prometheus-alertmanager)", pytrace=False)
        pytest.skip("Alertmanager is not installed")
    (tmp_path / "config.yaml").write_text(CONFIG)
    port = any_free_port(())
    words = [f"--config.file={tmp_path / 'config.yaml'}", f"--storage.path={tmp_path}"]
    words += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    server = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLOPS_ALERTMANAGER_URL", address)
    settings.cache_clear()
    try:
        _until(lambda: _ready(address))
        yield address
    finally:
        server.terminate()
        server.wait()
        settings.cache_clear()


def test_failure_then_success(alertmanager: str):
    notify.tell_failure(CONTEXT)
    _until(lambda: _alerts(alertmanager))
    (alert,) = _alerts(alertmanager)
    assert alert["labels"] == {
        "alertname": "AirflowRunFailed",
        "dag": "retrain_model",
        "namespace": "mlops",
        "severity": "warning",
    }
    assert "scheduled__1" in alert["annotations"]["description"]
    notify.tell_success(CONTEXT)
    _until(lambda: not _alerts(alertmanager))


def test_nobody_to_tell_is_no_failure_of_the_callback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("MLOPS_ALERTMANAGER_URL", f"http://127.0.0.1:{any_free_port(())}")
    settings.cache_clear()
    notify.tell_failure(CONTEXT)
    settings.cache_clear()
    assert "was not told that retrain_model ended" in caplog.text


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def _alerts(address: str) -> list[dict]:
    return httpx.get(f"{address}/api/v2/alerts", trust_env=False).json()


def _until(holds) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
