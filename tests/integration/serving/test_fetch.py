"""A version that retrain_model made is brought from a real MLflow server into a folder, and served from there."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from include.code_version import ROOT
from include.command import BadInput
from include.fraud import dataset, evaluate, package, promote, tracking, train
from include.fraud.form import RetrainForm
from include.fraud.plan import plan
from include.model_package import MANIFEST, MODEL, SNAPSHOT
from include.serving import fetch
from include.settings import settings
from tests.integration.serving.conftest import AS_OF, free_port, transaction

NAME = "fetched"
FILES = {MODEL, SNAPSHOT, MANIFEST}


@pytest.fixture(scope="module")
def deployment(mlflow_server, small_lake):
    """Settings of a deployment with this lake and this server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_LAKE_URI", str(small_lake))
        patch.setenv("MLOPS_MLFLOW_TRACKING_URI", mlflow_server)
        patch.setenv("MLOPS_MLFLOW_EXPERIMENT", NAME)
        patch.setenv("MLOPS_MODEL_NAME", NAME)
        settings.cache_clear()
        yield mlflow_server
    settings.cache_clear()


@pytest.fixture(scope="module")
def run_id(deployment):
    """The run of version 1, which is packed and promoted; version 2 is another candidate's, registered and no more."""
    form = RetrainForm(train_days=4, test_days=4, rule="not_worse", margin=1.0)
    made = plan(AS_OF, form)
    rows = dataset.main(dataset.Args(plan=made))
    best, other = (
        train.main(train.Args(plan=made, dataset=rows, candidate=name))
        for name in ("decision_tree", "logistic_regression")
    )
    verdict = evaluate.main(evaluate.Args(plan=made, dataset=rows, trained=[best]))
    package.main(package.Args(plan=made, dataset=rows, evaluation=verdict))
    assert promote.main(promote.Args(evaluation=verdict))["version"] == "1"
    assert tracking.register(tracking.connect(), other.run_id, {}, "").version == "2"
    return verdict.run_id


def bring(folder, version: str = "1", name: str = NAME) -> dict:
    return fetch.main(fetch.Args(name=name, version=version, to=folder))


def contents(folder) -> dict[str, tuple[str, int]]:
    """Of every file, what is in it and when it was written."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in folder.iterdir()
    }


def test_a_fetched_version_is_served(run_id, serve, tmp_path):
    folder = tmp_path / "new" / "model"
    assert bring(folder) == {"name": NAME, "version": "1", "run_id": run_id, "fetched": True}
    assert {file.name for file in folder.iterdir()} == FILES
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (manifest["name"], manifest["version"], manifest["run_id"]) == (NAME, "1", run_id)
    replica = serve(folder)
    with replica.client() as client:
        assert client.get("/").json()["version"] == "1"
        assert client.post("/predict", json=transaction()).json()["model_version"] == "1"
        answers = client.post("/predict", json=[one["request"] for one in manifest["golden"]]).json()
    for answer, golden in zip(answers, manifest["golden"], strict=True):
        assert answer["probability"] == pytest.approx(golden["probability"], abs=1e-5)
        assert not answer["degraded"]


def test_what_is_there_is_not_fetched_again(run_id, tmp_path, monkeypatch):
    bring(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(fetch, "download", None)  # MLflow is not even asked
    assert bring(tmp_path) == {"name": NAME, "version": "1", "run_id": run_id, "fetched": False}
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / MODEL).write_bytes(b"not this"),
        lambda folder: (folder / MODEL).unlink(),
        lambda folder: (folder / SNAPSHOT).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{}"),
        lambda folder: (folder / MANIFEST).write_text(
            (folder / MANIFEST).read_text().replace('"version": "1"', '"version": "7"')
        ),
    ],
)
def test_what_is_not_whole_or_another_version_is_fetched_again(run_id, tmp_path, spoil):
    bring(tmp_path)
    before = {name: digest for name, (digest, _) in contents(tmp_path).items()}
    spoil(tmp_path)
    assert bring(tmp_path)["fetched"]
    assert {name: digest for name, (digest, _) in contents(tmp_path).items()} == before


@pytest.mark.parametrize(
    ("version", "name", "message"),
    [
        ("99", NAME, "no version 99 of 'fetched'"),
        ("1", "nobody", "no version 1 of 'nobody'"),
        ("2", NAME, f"has no serving/{SNAPSHOT}, serving/{MANIFEST}"),
    ],
)
def test_what_cannot_be_served_leaves_the_folder_as_it_was(run_id, tmp_path, version, name, message):
    bring(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=message):
        bring(tmp_path, version, name)
    assert contents(tmp_path) == before


def test_a_package_of_another_model_is_refused(run_id, tmp_path):
    """A version whose model is not the one that was packed: by then nothing may have changed in the folder."""
    client = MlflowClient()
    good = json.loads(Path(client.download_artifacts(run_id, f"serving/{MANIFEST}", tmp_path)).read_text())
    mixed = client.create_run(client.get_run(run_id).info.experiment_id)
    client.log_text(mixed.info.run_id, json.dumps(good | {"onnx_sha256": "0" * 64}), f"serving/{MANIFEST}")
    client.log_text(mixed.info.run_id, "", f"serving/{SNAPSHOT}")
    source = client.get_model_version(NAME, "1").source
    model_id = source.rpartition("/")[2]
    version = client.create_model_version(NAME, source=source, run_id=mixed.info.run_id, model_id=model_id).version
    folder = tmp_path / "model"
    bring(folder)
    before = contents(folder)
    with pytest.raises(BadInput, match="damaged"):
        bring(folder, str(version))
    assert contents(folder) == before


def run_fetch(folder, address: str, version: str, *more: str) -> tuple[int, dict, float]:
    """Exit code, result and seconds of the step as a process."""
    began = time.monotonic()
    result = folder / "result.json"
    code = subprocess.run(
        [
            *(sys.executable, "-m", "include.serving.fetch", "--name", NAME, "--version", version),
            *("--to", str(folder / "model"), "--result", str(result), *more),
        ],
        env=os.environ | {"MLOPS_MLFLOW_TRACKING_URI": address, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
    ).returncode
    return code, json.loads(result.read_text()), time.monotonic() - began


def test_mlflow_is_away_for_longer_than_it_is_waited_for(tmp_path):
    code, answer, seconds = run_fetch(tmp_path, f"http://127.0.0.1:{free_port()}", "1", "--wait-seconds", "4")
    assert code == 1
    assert "ConnectionError" in answer["error"]
    assert "within 4 s" in answer["error"]
    assert 4 < seconds < 40
    assert not (tmp_path / "model" / MANIFEST).exists()


def test_exit_codes(run_id, deployment, tmp_path):
    assert run_fetch(tmp_path, deployment, "99")[0] == 2
    assert run_fetch(tmp_path, deployment, "champion")[0] == 2
    code, answer, _ = run_fetch(tmp_path, deployment, "1")
    assert (code, answer["fetched"]) == (0, True)
