"""Step: one page that shows the whole drill, kept as an artifact in MLflow.

`python -m include.alerting.report --preflight … --attack … --watch … --judged …`
"""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pydantic import Field

from include.alerting.evidence import Watched
from include.alerting.judge import Judged, facts
from include.alerting.page import page
from include.alerting.plan import Drill
from include.command import StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

EXPERIMENT = "alert_drill"
KIND = {"mlflow.experimentKind": "custom_model_development"}
DRILL = "drill"  # tag of a run: the report of a drill is written once, and again in the same place
PAGE, FACTS = "drill.html", "drill.json"


class Args(StepArgs):
    """What the steps before said; what never came to say anything is empty."""

    preflight: dict[str, Any] = Field(default_factory=dict)
    attack: dict[str, Any] = Field(default_factory=dict)
    watch: dict[str, Any] = Field(default_factory=dict)
    judged: Judged


def main(args: Args) -> dict[str, Any]:
    """Answer: the verdict, and where the page is."""
    judged = args.judged
    plan, attack, watched = facts(args.preflight, args.attack, args.watch)
    written = page(plan, attack, watched, judged)
    known = {
        "judged": judged.model_dump(),
        "plan": plan and plan.model_dump(),
        "attack": attack,
        "watch": watched and watched.model_dump(),
    }
    try:
        run_id, experiment = keep(written, known, judged, plan, watched)
    except MlflowException as error:
        raise ConnectionError(
            f"the report could not be kept: MLflow at {settings().mlflow_tracking_uri} says "
            f"{str(error).splitlines()[0][:200]}; start it or correct MLOPS_MLFLOW_TRACKING_URI"
        ) from error
    address = settings().mlflow_tracking_uri.rstrip("/")
    answer = {
        "verdict": judged.verdict,
        "cause": judged.cause,
        "said": judged.said,
        "report": f"{address}/#/experiments/{experiment}/runs/{run_id}/artifacts/{PAGE}",
        "page": f"{address}/get-artifact?run_uuid={run_id}&path={PAGE}",
        "run_id": run_id,
    }
    log.info("%s", answer["report"])
    return answer


def keep(
    written: str, known: dict[str, Any], judged: Judged, plan: Drill | None, watched: Watched | None
) -> tuple[str, str]:
    """Ids of the run and of the experiment that hold the page and its facts."""
    client = MlflowClient(tracking_uri=settings().mlflow_tracking_uri)
    experiment = _experiment(client)
    drill = judged.drill or "without a plan"
    found = client.search_runs([experiment], f"tags.{DRILL} = '{drill}'", max_results=1) if judged.drill else []
    run_id = found[0].info.run_id if found else client.create_run(experiment, run_name=drill).info.run_id
    for name, value in ((DRILL, drill), ("verdict", judged.verdict), ("cause", judged.cause)):
        client.set_tag(run_id, name, value)
    client.set_tag(run_id, "mlflow.note.content", judged.said)
    for kind, took in judged.seconds_to_receipt.items():
        client.log_metric(run_id, f"seconds_to_{kind}", took)
    if plan and watched:
        client.log_metric(run_id, "expected_seconds_at_most", plan.expected_seconds.max)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PAGE).write_text(written)
        (Path(folder) / FACTS).write_text(json.dumps(known, allow_nan=False))
        client.log_artifacts(run_id, folder)
    client.set_terminated(run_id, "FINISHED")
    return run_id, experiment


def _experiment(client: MlflowClient) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return found.experiment_id if found else client.create_experiment(EXPERIMENT, tags=KIND)


if __name__ == "__main__":
    run(main)
