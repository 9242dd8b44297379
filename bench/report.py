"""What every benchmark says in the end: a table for people, ``build/bench/<name>.json`` for machines, one exit code.

    report = Report("features")
    report.row("ours", "time", "s", [0.41, 0.40, 0.43])          # one figure, every run of it
    report.ratio("reference / ours", 95.1)                       # how two rows compare
    report.goal("speed-up", goal=50, reached=95.1, met=True)     # what was promised, and whether it holds
    sys.exit(report.finish())                                    # 0 only when every goal is met

The JSON is ``{"bench", "commit", "machine": {"cpus", "memory_gib"}, "rows": [{"who", "metric", "unit", "median", "min",
"max", "runs"}], "ratios": {what: number}, "goals": {what: {"goal", "reached", "met"}}}``.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from include.code_version import ROOT, code_version

FOLDER = ROOT / "build" / "bench"


class Report:
    """Collects one benchmark's figures; `finish` prints and writes them."""

    def __init__(self, bench: str, folder: Path = FOLDER) -> None:
        self.bench = bench
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.ratios: dict[str, float] = {}
        self.goals: dict[str, dict[str, Any]] = {}

    def row(self, who: str, metric: str, unit: str, runs: Sequence[float]) -> float:
        """Add one measured figure: `runs` holds every run's value (at least one). Returns their median."""
        middle = float(median(runs))
        self.rows.append(
            {
                "who": who,
                "metric": metric,
                "unit": unit,
                "median": middle,
                "min": float(min(runs)),
                "max": float(max(runs)),
                "runs": len(runs),
            }
        )
        return middle

    def ratio(self, what: str, value: float) -> float:
        """Add how two figures compare; `what` says which is divided by which."""
        self.ratios[what] = float(value)
        return float(value)

    def goal(self, what: str, goal: float | str, reached: float | str, met: bool) -> None:
        """Add a promise: `goal` and `reached` are shown as given, `met` (which bound, which side) is the caller's."""
        self.goals[what] = {"goal": goal, "reached": reached, "met": bool(met)}

    def finish(self) -> int:
        """Print the tables, write the JSON, and return the exit code: 0 when every goal is met, else 1."""
        console = Console()
        console.print(self._figures())
        if self.goals:
            console.print(self._promises())
        path = self._write()
        console.print(f"written to {path}")
        return 0 if all(goal["met"] for goal in self.goals.values()) else 1

    def _figures(self) -> Table:
        table = Table("who", "metric", "unit", title=f"{self.bench} at {code_version()[:10]}")
        for column in ("median", "min", "max", "runs"):
            table.add_column(column, justify="right")
        for row in self.rows:
            figures = (f"{row[column]:,.4g}" for column in ("median", "min", "max"))
            table.add_row(row["who"], row["metric"], row["unit"], *figures, str(row["runs"]))
        for what, value in self.ratios.items():
            table.add_row(what, "ratio", "x", f"{value:,.4g}", "", "", "")
        return table

    def _promises(self) -> Table:
        table = Table("goal", "asked", "reached", "verdict", title="goals")
        for what, goal in self.goals.items():
            asked, reached = (f"{v:,.4g}" if isinstance(v, float) else str(v) for v in (goal["goal"], goal["reached"]))
            table.add_row(what, asked, reached, "[green]met[/]" if goal["met"] else "[red]MISSED[/]")
        return table

    def _write(self) -> Path:
        answer = {
            "bench": self.bench,
            "commit": code_version(),
            "machine": {"cpus": len(os.sched_getaffinity(0)), "memory_gib": round(_memory_gib(), 1)},
            "rows": self.rows,
            "ratios": self.ratios,
            "goals": self.goals,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.bench}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(answer, indent=2, allow_nan=False) + "\n")
        temporary.replace(path)
        return path


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
