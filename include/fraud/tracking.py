"""Where runs, models and the alias `champion` live: MLflow."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Through MLflow itself: a pod need not reach the bucket that lies behind it.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
# Airflow tries again after minutes; a step that hangs on a dead server helps nobody.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from include.settings import settings

CHAMPION, PREVIOUS_CHAMPION = "champion", "previous_champion"
FINGERPRINT = "fingerprint"  # tag of a run: what went into the model, so that the same work is not done twice
MODEL_ID = "model_id"  # tag of a run: its logged model
ONNX_SHA256 = "onnx_sha256"  # tag of a run and of a model version
ONNX_FILE = "model.onnx"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # or the pages take the runs for those of an agent


@dataclass(frozen=True)
class Version:
    """A version of the registered model."""

    name: str
    version: str
    run_id: str
    onnx_sha256: str

    def __str__(self) -> str:
        """As a sentence names it."""
        return f"version {self.version}"


def connect() -> MlflowClient:
    """A client of the configured server. Raises ConnectionError, which a retry may cure, when it does not answer."""
    uri = settings().mlflow_tracking_uri
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise ConnectionError(
            f"MLflow at {uri} does not answer ({str(error).splitlines()[0][:200]}); "
            "start it or correct MLOPS_MLFLOW_TRACKING_URI"
        ) from error
    return client


def experiment_id(client: MlflowClient) -> str:
    """The experiment of the training runs, made when it does not exist."""
    name = settings().mlflow_experiment
    found = client.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    try:
        return client.create_experiment(name, tags=KIND)
    except MlflowException:  # another candidate's step was faster
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def finished_run(client: MlflowClient, fingerprint: str) -> Run | None:
    """The run that already did this very work, if there is one."""
    runs = client.search_runs(
        [experiment_id(client)],
        f"tags.{FINGERPRINT} = '{fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    return runs[0] if runs else None


def onnx_of_run(client: MlflowClient, run_id: str) -> bytes:
    """The bytes of a run's model."""
    model_id = client.get_run(run_id).data.tags[MODEL_ID]
    with tempfile.TemporaryDirectory() as folder:
        model = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{model_id}", dst_path=folder)
        return (Path(model) / ONNX_FILE).read_bytes()


def version_with_alias(client: MlflowClient, alias: str) -> Version | None:
    """The version an alias points to, or None where the model or the alias does not exist yet."""
    try:
        found = client.get_model_version_by_alias(settings().model_name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _version(found)


def register(client: MlflowClient, run_id: str, tags: dict[str, str], description: str) -> Version:
    """The version that holds the run's model: the one there is, or a new one."""
    name = settings().model_name
    try:
        client.create_registered_model(name, description="Scores card transactions; ONNX, needs no scikit-learn.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for found in client.search_model_versions(f"name = '{name}'"):
        if found.run_id == run_id:
            return _version(found)
    model_id = client.get_run(run_id).data.tags[MODEL_ID]
    made = client.create_model_version(
        name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id, tags=tags, description=description
    )
    return _version(made)


def _version(found: Any) -> Version:
    return Version(found.name, str(found.version), found.run_id, found.tags.get(ONNX_SHA256, ""))
