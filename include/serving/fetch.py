"""Step: bring the package of one version of the model from MLflow into a folder.

    python -m include.serving.fetch --name fraud --version 3 --to build/model

The folder holds the whole package in the end, or is as it was. One that holds this version already is left alone.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field

from include.command import BadInput, StepArgs, run
from include.model_package import FOLDER, MANIFEST, MODEL, SNAPSHOT, Manifest, read_manifest, write_manifest
from include.settings import settings

log = logging.getLogger(__name__)

CHAMPION = "champion"  # the alias that retrain_model moves
LOOK_AGAIN_SECONDS = 2.0


class Args(StepArgs):
    """Which version, and where to."""

    name: str = Field(description="registered model")
    version: str = Field(pattern=r"^[1-9]\d*$", description="its version, a number: an alias may move, a version not")
    to: Path = Field(description="folder that gets the package")
    wait_seconds: float = Field(0.0, ge=0, description="how long to wait for MLflow to answer")


def main(args: Args) -> dict[str, Any]:
    """Answer: the version, its run, and whether anything had to be fetched."""
    held = _held(args.to)
    if held and (held.name, held.version) == (args.name, args.version):
        log.info("%s holds %s version %s already", args.to, args.name, args.version)
        return _answer(held, fetched=False)
    args.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.to, prefix=".fetch-") as scratch:
        manifest = download(args.name, args.version, Path(scratch), args.wait_seconds)
        (args.to / MANIFEST).unlink(missing_ok=True)
        for file in (MODEL, SNAPSHOT, MANIFEST):  # the manifest last: with it the package counts as complete
            (Path(scratch) / file).replace(args.to / file)
    log.info("fetched %s version %s", args.name, args.version)
    return _answer(manifest, fetched=True)


def download(name: str, version: str, folder: Path, wait_seconds: float = 0.0) -> Manifest:
    """Fill the empty folder with the package. Raises BadInput for a version that is not there or not servable."""
    import mlflow

    client = _client(wait_seconds)
    manifest = _servable(client, name, version)
    with tempfile.TemporaryDirectory() as scratch:
        model = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=scratch)
        shutil.copyfile(Path(model) / MODEL, folder / MODEL)
        shutil.copyfile(client.download_artifacts(manifest.run_id, f"{FOLDER}/{SNAPSHOT}", scratch), folder / SNAPSHOT)
    have = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    if have != manifest.onnx_sha256:
        raise BadInput(f"version {version} of {name!r} is damaged: SHA-256 {have}, packed as {manifest.onnx_sha256}")
    write_manifest(folder, manifest)
    return manifest


def servable(name: str, version: str | None) -> Manifest:
    """What is to be known of a version (default: the champion). Raises BadInput when it cannot be served."""
    return _servable(_client(0.0), name, version)


def _servable(client: Any, name: str, version: str | None) -> Manifest:
    from mlflow.exceptions import MlflowException

    try:
        if version is None:
            found = client.get_model_version_by_alias(name, CHAMPION)
        else:
            found = client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            which = f"version {version}" if version else f"version with the alias {CHAMPION}"
            raise BadInput(f"MLflow has no {which} of {name!r}; retrain_model makes them") from error
        raise
    held = {item.path for item in client.list_artifacts(found.run_id, FOLDER)}
    missing = sorted({f"{FOLDER}/{MANIFEST}", f"{FOLDER}/{SNAPSHOT}"} - held)
    if missing:
        raise BadInput(
            f"version {found.version} of {name!r} cannot be served: its run {found.run_id} has no "
            f"{', '.join(missing)}; only versions that retrain_model chose to promote are packed for serving"
        )
    with tempfile.TemporaryDirectory() as scratch:
        manifest = read_manifest(Path(client.download_artifacts(found.run_id, f"{FOLDER}/{MANIFEST}", scratch)).parent)
    return msgspec.structs.replace(manifest, name=name, version=str(found.version))


def _client(wait_seconds: float) -> Any:
    """A client of MLflow once it answers. Raises ConnectionError, which a retry may cure."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Through MLflow itself: a pod need not reach the bucket that lies behind it.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = settings().mlflow_tracking_uri
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            client.search_experiments(max_results=1)
        except MlflowException as error:
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"MLflow at {uri} did not answer within {wait_seconds:.0f} s ({str(error).splitlines()[0][:200]}); "
                    "start it or correct MLOPS_MLFLOW_TRACKING_URI"
                ) from error
            log.info("waiting for MLflow at %s", uri)
            time.sleep(LOOK_AGAIN_SECONDS)
        else:
            return client


def _held(folder: Path) -> Manifest | None:
    """The manifest of a whole package, or None."""
    try:
        manifest = read_manifest(folder)
        model = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    except (OSError, msgspec.MsgspecError):
        return None
    return manifest if model == manifest.onnx_sha256 and (folder / SNAPSHOT).is_file() else None


def _answer(manifest: Manifest, fetched: bool) -> dict[str, Any]:
    return {"name": manifest.name, "version": manifest.version, "run_id": manifest.run_id, "fetched": fetched}


if __name__ == "__main__":
    run(main)
