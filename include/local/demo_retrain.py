"""The demo's retraining: history in, a first model, a week later the second retrain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
from rich.console import Console

from include.local.airflow_api import AirflowApi, Json
from include.local.dag_runs import DagRun, run_dag, wait_until_parsed
from include.local.demo_days import DemoDays
from include.settings import settings

DECISIONS = ("promote", "keep", "unchanged")  # unchanged: the winner is the champion itself, trained again
# A week later a model of the same kind is rarely *surely better*; a fresher one that is surely not much worse will do.
FRESHER = {"rule": "not_worse", "margin": 0.02}
INGEST, RETRAIN = "ingest_transactions", "retrain_model"


@dataclass(frozen=True)
class Verdict:
    """What was to be shown, whether it was, and the sentence that says so."""

    what: str
    good: bool
    said: str


@dataclass(frozen=True)
class Retrain:
    """What one run of `retrain_model` found."""

    as_of: date
    candidates: list[Json]
    evaluation: Json
    promotion: Json | None
    seconds: float


@dataclass(frozen=True)
class RetrainDemo:
    """Everything the retraining part did, as far as it came."""

    runs: list[DagRun]
    retrains: list[Retrain]
    verdicts: list[Verdict]


def retrain_demo(
    api: AirflowApi, mlflow_address: str, days: DemoDays, console: Console, promoted: Callable[[str], bool]
) -> RetrainDemo:
    """Ingest, retrain, ingest the next week, retrain; stops at the first run that does not succeed.

    `promoted` is called with each version that was promoted, and says whether to go on.
    """
    for dag_id in (INGEST, RETRAIN):
        wait_until_parsed(api, dag_id, console)
    demo = RetrainDemo([], [], [])
    had_champion = champion_version(mlflow_address) is not None
    new_week = days.as_of + timedelta(days=1)
    for first, as_of, rule in ((days.first, days.as_of, {}), (new_week, days.next_as_of, FRESHER)):
        if not _step(demo, api, INGEST, {"first": str(first), "last": str(as_of)}, console):
            return demo
        if not _step(demo, api, RETRAIN, {"as_of": str(as_of), **rule}, console):
            return demo
        retrain = _read(api, demo.runs[-1], as_of)
        demo.retrains.append(retrain)
        demo.verdicts.append(judge(retrain, must_promote=not had_champion and len(demo.retrains) == 1))
        if retrain.promotion and not promoted(retrain.promotion["version"]):
            return demo
    champion = champion_version(mlflow_address)
    said = f"MLflow serves version {champion} as champion" if champion else "no version carries the alias champion"
    demo.verdicts.append(Verdict(f"champion of {settings().model_name}", champion is not None, said))
    return demo


def judge(retrain: Retrain, must_promote: bool) -> Verdict:
    """A retrain is good when its decision was carried out; the very first one has nobody to lose to."""
    what = f"{RETRAIN} as of {retrain.as_of}"
    decision = retrain.evaluation.get("decision")
    said = str(retrain.evaluation.get("verdict") or "evaluate gave no verdict")
    if decision == "promote" and retrain.promotion is None:
        return Verdict(what, False, f"{said} But nothing was promoted.")
    if must_promote and decision != "promote":
        return Verdict(what, False, f"{said} But there was no champion before: the first model had to be promoted.")
    return Verdict(what, decision in DECISIONS, said)


def champion_version(mlflow_address: str) -> str | None:
    """The version that carries the alias `champion` in MLflow, or None."""
    answer = httpx.get(
        f"{mlflow_address}/api/2.0/mlflow/registered-models/alias",
        params={"name": settings().model_name, "alias": "champion"},
        timeout=60,
        trust_env=False,
    )
    if answer.is_success:
        return str(answer.json()["model_version"]["version"])
    if answer.json().get("error_code") in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        return None  # MLflow calls a missing alias an invalid parameter
    answer.raise_for_status()
    return None


def _step(demo: RetrainDemo, api: AirflowApi, dag_id: str, conf: Mapping[str, Any], console: Console) -> bool:
    run = run_dag(api, dag_id, conf, console)
    demo.runs.append(run)
    failed = ", ".join(sorted({task["task_id"] for task in run.failed_tasks()}))
    said = f"{run.state} after {run.seconds:.0f} s" + (f"; failed: {failed}" if failed else "")
    demo.verdicts.append(Verdict(run.title, run.state == "success", said))
    return run.state == "success"


def _read(api: AirflowApi, run: DagRun, as_of: date) -> Retrain:
    trained = [task for task in run.tasks if task["task_id"] == "train"]
    candidates = [api.xcom(RETRAIN, run.run_id, "train", task["map_index"]) for task in trained]
    evaluation = api.xcom(RETRAIN, run.run_id, "evaluate") or {}
    promotion = api.xcom(RETRAIN, run.run_id, "promote")
    return Retrain(as_of, [each for each in candidates if each], evaluation, promotion, run.seconds)
