"""Step: train one candidate, measure it on the test week, and log all of it to MLflow.

`python -m include.fraud.train --plan "$(cat plan.json)" --dataset "$(cat dataset.json)" --candidate random_forest`
"""

import hashlib
import json
import logging
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
from mlflow.data.polars_dataset import from_polars
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from include.code_version import code_version
from include.command import StepArgs, run
from include.fraud import candidates, metrics, onnx_export, tracking
from include.fraud.dataset import Dataset, feature_matrix
from include.fraud.form import CandidateName
from include.fraud.plan import Plan
from include.fraud.protocol import rows_to_test, rows_to_train
from include.fraud.selection import Selection, select
from include.fraud.tracking import FINGERPRINT, MODEL_ID, ONNX_SHA256
from include.fraud.windows import FEATURES

log = logging.getLogger(__name__)

# What decides which model comes out of the same data; logged with every run and part of its fingerprint.
LIBRARIES = ("scikit-learn", "numpy", "polars", "onnx", "onnxruntime", "mlflow-skinny")
SERVED_WITH = ("onnxruntime", "numpy")


class Trained(BaseModel):
    """One candidate: its run in MLflow and how good it is."""

    model_config = ConfigDict(frozen=True)

    candidate: str
    run_id: str
    params: dict[str, Any]
    validation: dict[str, float]
    test: dict[str, float]
    train_seconds: float
    onnx_sha256: str


class Args(StepArgs):
    """Train one candidate."""

    plan: Plan
    dataset: Dataset
    candidate: CandidateName


def main(args: Args) -> Trained:
    """Answer: the candidate's run and metrics. The same work, done before, is found in MLflow and not done again."""
    client = tracking.connect()
    what = fingerprint(args.plan, args.dataset, args.candidate)
    done = tracking.finished_run(client, what)
    if done:
        log.info("run %s already did this", done.info.run_id)
        return Trained.model_validate_json(done.data.tags["trained"])
    rows = args.dataset.read()
    chosen = select(args.candidate, rows, args.plan.fold, feature_matrix)
    log.info("%s: %s is best on the validation week, %s", args.candidate, chosen.parameters, chosen.validation)
    training, test = rows_to_train(rows, args.plan.fold), rows_to_test(rows, args.plan.fold)
    started = time.perf_counter()
    model = candidates.fit(args.candidate, chosen.parameters, feature_matrix(training), training["tx_fraud"].to_numpy())
    seconds = time.perf_counter() - started
    onnx = onnx_export.export(model)
    difference = onnx_export.parity(model, onnx, feature_matrix(test))
    log.info("fitted in %.1f s; ONNX %.1f MB, scores differ by %.1e at the most", seconds, len(onnx) / 1e6, difference)
    with mlflow.start_run(
        experiment_id=tracking.experiment_id(client), run_name=f"{args.candidate} {args.plan.as_of}"
    ) as current:
        scores = onnx_export.scores(onnx, feature_matrix(test))
        measured = log_metrics(test, scores, args.candidate)
        mlflow.log_metrics({"train_seconds": seconds, "onnx_megabytes": len(onnx) / 1e6, "onnx_max_delta": difference})
        log_origin(args, rows, chosen)
        trained = Trained(
            candidate=args.candidate,
            run_id=current.info.run_id,
            params=dict(chosen.parameters),
            validation=chosen.validation.as_dict(),
            test=measured.as_dict(),
            train_seconds=seconds,
            onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        )
        model_id = log_model(onnx, feature_matrix(test.head(3)))
        mlflow.set_tags(
            {
                FINGERPRINT: what,
                MODEL_ID: model_id,
                ONNX_SHA256: trained.onnx_sha256,
                "trained": trained.model_dump_json(),
            }
        )
    return trained


def fingerprint(plan: Plan, dataset: Dataset, candidate: str) -> str:
    """SHA-256 of everything that decides which model comes out."""
    parts = [dataset.sha256, plan.model_dump(mode="json")["fold"], candidate, _code(), _libraries()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _code() -> str:
    """SHA-256 of this room as it lies here, so that an edit counts before it is committed, and other commits do not."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()


def log_metrics(test: pl.DataFrame, scores: NDArray[np.floating], title: str) -> metrics.Metrics:
    """The figures and pictures of the test week, on the run that is open."""
    from include.fraud import figures  # matplotlib: only where something is drawn

    fraud, customer = test["tx_fraud"].to_numpy(), test["customer_id"].to_numpy()
    day = test["tx_datetime"].dt.date().to_numpy()
    measured = metrics.evaluate(day, customer, scores, fraud)
    mlflow.log_metrics({f"test_{name}": value for name, value in measured.as_dict().items()})
    per_day, _ = metrics.card_precision_at_k(day, customer, scores, fraud)
    for number, share in enumerate(per_day):
        mlflow.log_metric("test_card_precision_at_100_of_day", float(share), step=number)
    mlflow.log_figure(figures.precision_recall(fraud, scores, f"{title}: precision and recall"), "precision_recall.png")
    mlflow.log_figure(figures.score_histogram(fraud, scores, f"{title}: scores of the test week"), "scores.png")
    return measured


def log_origin(args: Args, rows: pl.DataFrame, chosen: Selection) -> None:
    """What the model was made from, on the run that is open."""
    fold = args.plan.fold
    mlflow.log_params({"candidate": args.candidate, **chosen.parameters})
    mlflow.log_metrics({f"validation_{name}": value for name, value in chosen.validation.as_dict().items()})
    mlflow.log_input(
        from_polars(rows, args.dataset.uri, name="transactions", digest=args.dataset.sha256[:32]),
        context="training",
    )
    mlflow.set_tags(
        {
            "as_of": str(args.plan.as_of),
            "window.train": f"{fold.train_first} to {fold.train_last}",
            "window.validation": f"{fold.validation().test_first} to {fold.validation().test_last}",
            "window.test": f"{fold.test_first} to {fold.test_last}",
            "dataset.sha256": args.dataset.sha256,
            "dataset.rows": str(args.dataset.rows),
            "git_commit": code_version(),
            "features": ",".join(FEATURES),
        }
    )
    mlflow.log_dict({"features": list(FEATURES), "libraries": _libraries()}, "origin.json")


def log_model(onnx: bytes, example: NDArray[np.float32]) -> str:
    """Log the model with signature and example to the open run. Returns its id; serving needs no scikit-learn."""
    import mlflow.onnx
    from onnx import load_from_string

    info = mlflow.onnx.log_model(
        load_from_string(onnx),
        name="model",
        signature=ModelSignature(
            inputs=Schema([TensorSpec(np.dtype("float32"), (-1, len(FEATURES)), onnx_export.INPUT)]),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1), onnx_export.OUTPUT)]),
        ),
        input_example={onnx_export.INPUT: example},
        pip_requirements=[f"{name}=={version(name)}" for name in SERVED_WITH],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        metadata={"features": list(FEATURES)},
    )
    return info.model_id


def _libraries() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


if __name__ == "__main__":
    run(main)
