"""The report of a drill in a real MLflow, and the steps around it as their flags have them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from include.alerting.judge import judge
from tests.unit.alerting.good_drill import attack, plan, watched

ROOT = Path(__file__).parents[3]


def step(module: str, tracking: str, folder: Path, **flags: Any) -> tuple[int, dict[str, Any]]:
    given = [part for name, value in flags.items() for part in (f"--{name}", json.dumps(value))]
    result = folder / "result.json"
    ran = subprocess.run(
        [sys.executable, "-m", f"include.alerting.{module}", *given, "--result", str(result)],
        env={**os.environ, "MLOPS_MLFLOW_TRACKING_URI": tracking, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode in (0, 3), ran.stderr
    return ran.returncode, json.loads(result.read_text())


@pytest.mark.parametrize("came", ["all", "a plan and no more", "a refusal"])
def test_report_of_what_came_to_be(came: str, mlflow_server: str, tmp_path: Path) -> None:
    refusal = {"verdict": "SILENCED", "cause": "silence", "evidence": ["a silence <matches>"], "error": "x"}
    facts = {
        "all": {"preflight": plan().model_dump(), "attack": attack(), "watch": watched().model_dump()},
        "a plan and no more": {"preflight": plan().model_dump(), "attack": {}, "watch": {"error": "died"}},
        "a refusal": {"preflight": refusal, "attack": {}, "watch": {}},
    }[came]
    _, judged = step("judge", mlflow_server, tmp_path, **facts)
    code, answer = step("report", mlflow_server, tmp_path, **facts, judged=judged)
    assert code == 0
    page = httpx.get(answer["page"], trust_env=False)
    assert page.status_code == 200
    assert judged["verdict"] in page.text
    assert "<matches>" not in page.text
    for outside in ("<script", "<link", "@import", 'src="http', "url(http"):
        assert outside not in page.text
    code, answer = step("verdict", mlflow_server, tmp_path, judged=judged)
    assert (code, answer["verdict"]) == (0 if came == "all" else 3, judged["verdict"])


def test_a_second_report_is_the_same_run(mlflow_server: str, tmp_path: Path) -> None:
    judged = judge(plan(drill="twice"), attack(), watched()).model_dump()
    facts = {"preflight": plan(drill="twice").model_dump(), "attack": attack(), "watch": watched().model_dump()}
    runs = {step("report", mlflow_server, tmp_path, **facts, judged=judged)[1]["run_id"] for _ in range(2)}
    assert len(runs) == 1
    kept = MlflowClient(mlflow_server).list_artifacts(runs.pop())
    assert {one.path for one in kept} == {"drill.html", "drill.json"}
