"""The demo's drill: a real attack on the local service until the admin's page is in the inbox."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from include.local.airflow_api import AirflowApi, Json
from include.local.dag_runs import DagRun, run_dag, wait_until_parsed
from include.local.demo_retrain import Verdict

DRILL = "alert_drill"
# A replica's limit is a figure that a small machine can reach (include/local/model_api.py), so less load is quiet: one
# replica may get most of what is as little as this, and must stay cool.
QUIET = {"quiet_rate": 10, "stages": "10x60,200x60,500x60,1500x120"}
# Where the chain's minutes are seconds, so are those of the stages.
SHORT_STAGES = {"stages": "10x5,200x10,500x10,1500x20", "surge_factor": 1.2, "surge_hold": 10, "surge_cap": 5000}


@dataclass
class DrillDemo:
    """The drills, as far as they came."""

    runs: list[DagRun] = field(default_factory=list)
    judged: list[Json] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


def drill(demo: DrillDemo, api: AirflowApi, full: bool, console: Console) -> None:
    """One drill; `full`: with the stages that the form proposes, because the chain's times are real too."""
    wait_until_parsed(api, DRILL, console)
    run = run_dag(api, DRILL, QUIET | ({} if full else SHORT_STAGES), console)
    demo.runs.append(run)
    judged = api.xcom(DRILL, run.run_id, "judge") or {}
    report = api.xcom(DRILL, run.run_id, "report") or {}
    if judged:
        demo.judged.append(judged | {"report": report.get("report")})
    said = judged.get("said") or f"the run {run.state}"
    good = run.state == "success" and judged.get("verdict") == "ALERT_RECEIVED"
    demo.verdicts.append(Verdict("attack and page", good, said))


def timeline(judged: Json) -> Table:
    """Each link of the chain: when, and how long after the one before, measured and expected at most."""
    title = f"drill {judged.get('drill')}: {judged.get('verdict')}"
    table = Table("link", "at (UTC)", "measured, s", "expected, s", title=title, title_justify="left")
    for link in judged.get("links", []):
        at = datetime.fromtimestamp(link["at"], UTC).strftime("%H:%M:%S.%f")[:-5] if link["at"] else "never"
        table.add_row(link["link"], at, *(_seconds(link[name]) for name in ("measured", "expected")))
    return table


def _seconds(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.1f}"
