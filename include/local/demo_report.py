"""What the demo ends with: tables for people, ``build/demo/summary.json`` for machines."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from include.code_version import ROOT, code_version
from include.local.dag_runs import DagRun
from include.local.demo_backup import BackupDemo, sizes
from include.local.demo_drill import DrillDemo, timeline
from include.local.demo_redeploy import RedeployDemo
from include.local.demo_retrain import Retrain, RetrainDemo, Verdict

FOLDER = ROOT / "build" / "demo"
METRICS = {"auc_roc": "AUC", "average_precision": "AP", "card_precision_at_100": "CP@100"}


@dataclass
class Shown:
    """Everything that the demo did, as far as it came."""

    retrains: RetrainDemo
    rollouts: RedeployDemo
    backups: BackupDemo
    drill: DrillDemo

    def verdicts(self) -> list[Verdict]:
        """Of all parts."""
        return [*self.retrains.verdicts, *self.rollouts.verdicts, *self.backups.verdicts, *self.drill.verdicts]


def show(shown: Shown, addresses: Mapping[str, str], console: Console) -> None:
    """Print every retrain's candidates, every verdict, and where to look further."""
    for retrain in shown.retrains.retrains:
        console.print(_candidates(retrain))
        console.print(str(retrain.evaluation.get("verdict", "")), highlight=False)
    if shown.backups.backups:
        console.print(sizes(shown.backups.backups))
    for restore in shown.backups.restores:
        console.print(restore.get("summary", ""), markup=False)
    for judged in shown.drill.judged:
        console.print(timeline(judged))
        console.print(f"report: {judged.get('report')}", soft_wrap=True)
    table = Table("step", "verdict", "said", title="verdicts")
    for verdict in shown.verdicts():
        table.add_row(verdict.what, "[green]good[/]" if verdict.good else "[red]BAD[/]", verdict.said)
    console.print(table)
    for name, address in addresses.items():
        console.print(f"{name}: {address}", soft_wrap=True)


def write(
    shown: Shown, source: str, addresses: Mapping[str, str], durations: Mapping[str, float], folder: Path = FOLDER
) -> Path:
    """Write the summary; whoever reads it sees all of it or nothing."""
    summary = {
        "commit": code_version(),
        "source": source,
        "good": good(shown),
        "steps": [
            _run(run) for run in [*shown.retrains.runs, *shown.rollouts.runs, *shown.backups.runs, *shown.drill.runs]
        ],
        "retrains": [asdict(retrain) for retrain in shown.retrains.retrains],
        "rollouts": shown.rollouts.reports,
        "traffic": traffic(shown.rollouts),
        "backups": shown.backups.backups,
        "restores": shown.backups.restores,
        "drills": shown.drill.judged,
        "verdicts": [asdict(verdict) for verdict in shown.verdicts()],
        "durations": {name: round(seconds, 1) for name, seconds in durations.items()},
        "addresses": dict(addresses),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "summary.json"
    whole = file.with_suffix(".tmp")
    whole.write_text(json.dumps(summary, indent=2, default=str) + "\n")
    whole.replace(file)
    return file


def good(shown: Shown, so_far: bool = False) -> bool:
    """Whether something was shown, and all of it is good; `so_far`: nothing need have been shown yet."""
    verdicts = shown.verdicts()
    return (so_far or bool(verdicts)) and all(verdict.good for verdict in verdicts)


def traffic(rollouts: RedeployDemo) -> dict[str, Any]:
    """What the client saw, for machines; empty when there was none."""
    sent = rollouts.sent
    if sent is None:
        return {}
    return {
        "requests": sent.requests,
        "failed": sent.failed,
        "failures": dict(sent.failures),
        "versions": dict(sent.versions),
        "degraded": sent.degraded,
        "p50_seconds": sent.percentile(0.5),
        "p99_seconds": sent.percentile(0.99),
    }


def _candidates(retrain: Retrain) -> Table:
    winner = retrain.evaluation.get("winner")
    winner = winner.get("candidate") if isinstance(winner, dict) else winner
    title = f"retrain as of {retrain.as_of} ({retrain.seconds:.0f} s); * is the winner"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), min_width=len(title))
    table.add_column("candidate", no_wrap=True)
    for fold in ("valid.", "test"):
        for name in METRICS.values():
            table.add_column(f"{fold}\n{name}", justify="right")
    table.add_column("train\nseconds", justify="right")
    for candidate in retrain.candidates:
        figures = [_figure(candidate.get(fold) or {}, metric) for fold in ("validation", "test") for metric in METRICS]
        name = str(candidate.get("candidate", "?"))
        shown = f"[bold green]{name} *[/]" if name == winner else name
        table.add_row(shown, *figures, _figure(candidate, "train_seconds", digits=1))
    return table


def _figure(values: Mapping[str, Any], name: str, digits: int = 3) -> str:
    return f"{values[name]:.{digits}f}" if isinstance(values.get(name), int | float) else "-"


def _run(run: DagRun) -> dict[str, Any]:
    tasks = [
        {"task": task["task_id"], "map_index": task["map_index"], "state": task["state"], "seconds": task["duration"]}
        for task in run.tasks
    ]
    facts = {"dag": run.dag_id, "run_id": run.run_id, "conf": dict(run.conf), "state": run.state}
    return {**facts, "seconds": round(run.seconds, 1), "tasks": tasks}
