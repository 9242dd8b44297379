"""The demo's rollouts: each promotion starts one by itself, while a client keeps sending transactions."""

import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.console import Console

from include.local.airflow_api import AirflowApi, Json
from include.local.dag_runs import DagRun, follow_run, run_dag
from include.local.demo_retrain import Verdict
from include.local.traffic import Sent

REDEPLOY = "redeploy_model"
TRIGGER_SECONDS = 120.0


@dataclass
class RedeployDemo:
    """The rollouts, as far as they came."""

    earlier: set[str]  # runs that were there before the demo
    runs: list[DagRun] = field(default_factory=list)
    reports: list[Json] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sent: Sent | None = None


def follow_rollout(demo: RedeployDemo, api: AirflowApi, service: str, version: str, console: Console) -> bool:
    """Wait for the run that the promotion of `version` started, follow it to its end, and ask the service itself."""
    known = demo.earlier | {run.run_id for run in demo.runs}
    run_id = _started(api, known)
    if run_id is None:
        said = f"no run of {REDEPLOY} within {TRIGGER_SECONDS:.0f} s of the promotion"
        demo.verdicts.append(Verdict(f"rollout of version {version}", False, said))
        return False
    run = follow_run(api, REDEPLOY, run_id, {"version": version}, console)
    demo.runs.append(run)
    report = api.xcom(REDEPLOY, run_id, "report")
    if report:
        demo.reports.append(report)
    live = live_version(service)
    good = run.state == "success" and live == version
    said = report["verdict"] if report else f"the run {run.state}; the service answers with version {live or 'none'}"
    demo.verdicts.append(Verdict(f"rollout of version {version}", good, said))
    return good


def roll_out_champion(demo: RedeployDemo, api: AirflowApi, service: str, console: Console) -> None:
    """Roll the champion out by hand, as from the UI."""
    run = run_dag(api, REDEPLOY, {}, console)
    demo.runs.append(run)
    plan, report = api.xcom(REDEPLOY, run.run_id, "preflight") or {}, api.xcom(REDEPLOY, run.run_id, "report")
    if report:
        demo.reports.append(report)
    said = (report or {}).get("verdict") or plan.get("said") or f"the run {run.state}"
    demo.verdicts.append(Verdict("rollout of the champion", run.state == "success", said))


def judge_traffic(demo: RedeployDemo, sent: Sent) -> None:
    """Not one request may have failed."""
    demo.sent = sent
    said = describe(sent)
    demo.verdicts.append(Verdict("a client's requests meanwhile", bool(sent.requests) and not sent.failed, said))


def describe(sent: Sent) -> str:
    """The client's figures in one sentence."""
    versions = ", ".join(f"{number} by version {version}" for version, number in sorted(sent.versions.items()))
    failed = f"{sent.failed} failed" + (f" ({dict(sent.failures)})" if sent.failed else "")
    return (
        f"{sent.requests} sent, {failed}, answered: {versions or 'none'}; p50 {sent.percentile(0.5) * 1000:.0f} ms, "
        f"p99 {sent.percentile(0.99) * 1000:.0f} ms; {sent.degraded} with degraded features"
    )


def live_version(service: str) -> str | None:
    """The version that answers now, or None."""
    try:
        answer: dict[str, Any] = httpx.get(service, timeout=30, trust_env=False).json()
    except (httpx.TransportError, ValueError):
        return None
    return answer.get("version")


def _started(api: AirflowApi, known: set[str]) -> str | None:
    deadline = time.monotonic() + TRIGGER_SECONDS
    while time.monotonic() < deadline:
        for run in api.runs(REDEPLOY):
            if run["dag_run_id"] not in known and run["run_type"] == "asset_triggered":
                return str(run["dag_run_id"])
        time.sleep(1)
    return None
