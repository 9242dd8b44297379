"""The whole job of `retrain_model`, step by step as the DAG runs it: `python -m bench.retrain`.

Real transactions where they are (MLOPS_REAL_DATA, or a folder shared/data beside the checkout), simulated ones
otherwise; a real MLflow server. Each step is a process of its own, candidates two at a time; ingestion is not part of
it. Wall time for each phase, and the peak memory of the hungriest process of it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from bench.report import Report
from include.code_version import ROOT
from include.fraud.form import RetrainForm
from include.local.mlflow_server import mlflow_server
from include.local.stack import inherited_environment
from include.local.state import State
from include.local.supervisor import Supervisor

GOAL_SECONDS = 60.0
AS_OF_REAL, AS_OF_SIMULATED = date(2018, 8, 28), date(2025, 6, 29)
CANDIDATES_AT_A_TIME = 2


class Job:
    """Runs steps and remembers how long each phase took and how much memory it needed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}

    def step(self, phase: str, module: str, **flags: str) -> Any:
        """Run ``python -m module`` and return its answer."""
        began = time.perf_counter()
        result = self.folder / f"{time.monotonic_ns()}.json"
        words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [sys.executable, "-m", module, *words, "--result", str(result)]
        with (self.folder / "steps.log").open("ab") as log:
            child = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=log, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{module} failed: {result.read_text() if result.exists() else self._log()}")
        self.seconds[phase] = max(self.seconds.get(phase, 0.0), time.perf_counter() - began)
        self.peak_mib[phase] = max(self.peak_mib.get(phase, 0.0), usage.ru_maxrss / 1024)
        return json.loads(result.read_text())

    def _log(self) -> str:
        return (self.folder / "steps.log").read_text()[-2000:]


def retrain(job: Job, as_of: date) -> tuple[dict[str, Any], float]:
    """The steps in the DAG's order. Returns the evaluation and the wall time in seconds."""
    began = time.perf_counter()
    plan = json.dumps(job.step("plan", "include.fraud.plan", as_of=str(as_of), form="{}"))
    dataset = json.dumps(job.step("dataset", "include.fraud.dataset", plan=plan))
    training = time.perf_counter()
    with ThreadPoolExecutor(CANDIDATES_AT_A_TIME) as pool:
        trained = list(
            pool.map(
                lambda name: job.step(
                    f"train {name}", "include.fraud.train", plan=plan, dataset=dataset, candidate=name
                ),
                RetrainForm().candidates,
            )
        )
    job.seconds["train, all"] = time.perf_counter() - training
    flags = {"plan": plan, "dataset": dataset, "trained": json.dumps(trained)}
    evaluation = job.step("evaluate", "include.fraud.evaluate", **flags)
    if evaluation["decision"] == "promote":
        job.step("package", "include.fraud.package", plan=plan, dataset=dataset, evaluation=json.dumps(evaluation))
        job.step("promote", "include.fraud.promote", evaluation=json.dumps(evaluation))
    return evaluation, time.perf_counter() - began


def main() -> int:
    """Fill a lake, start MLflow, run the job once, report."""
    real = Path(os.environ.get("MLOPS_REAL_DATA", ROOT.parent / "shared" / "data"))
    found = any(real.glob("*.parquet"))
    as_of = AS_OF_REAL if found else AS_OF_SIMULATED
    with tempfile.TemporaryDirectory(prefix="bench-retrain-") as name:
        folder = Path(name)
        state = State(folder / "state")
        server = mlflow_server(state, state.choose_ports(keep=False)["mlflow"])
        supervisor = Supervisor(state, print)
        supervisor.start([server], inherited_environment())
        try:
            settings = {
                "MLOPS_LAKE_URI": str(folder / "lake"),
                "MLOPS_SOURCE": str(real / "*.parquet") if found else "simulator",
                "MLOPS_MLFLOW_TRACKING_URI": server.address,
            }
            job = Job(folder, os.environ | settings | {"PYTHONPATH": str(ROOT)})
            plan = job.step("plan", "include.fraud.plan", as_of=str(as_of), form="{}")
            first = plan["windows"]["reads"].partition(" to ")[0]
            job.step("ingest", "include.fraud.ingest", first=first, last=str(as_of))
            del job.seconds["ingest"], job.seconds["plan"]
            evaluation, seconds = retrain(job, as_of)
        finally:
            supervisor.stop_all()
    return tell(job, seconds, "real" if found else "simulated", evaluation["verdict"])


def tell(job: Job, seconds: float, data: str, verdict: str) -> int:
    """The figures of the one run."""
    report = Report("retrain")
    for phase, taken in job.seconds.items():
        report.row(phase, "wall time", "s", [taken])
        if phase in job.peak_mib:
            report.row(phase, "peak memory", "MiB", [job.peak_mib[phase]])
    report.row(f"retrain_model on {data} transactions", "wall time", "s", [seconds])
    report.goal("retrain_model, seconds", GOAL_SECONDS, round(seconds, 1), seconds <= GOAL_SECONDS)
    print(verdict)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
