"""Show the repository at work on this machine: ``python -m include.local.demo``; --help tells the flags.

Starts the local stack, then lets the real scheduler run the DAGs. Ends with tables, the addresses of the pages, and
``build/demo/summary.json``. Exit code 0 only when every verdict is good; 2 when it cannot be done as asked.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from include.fraud.examples import requests_of
from include.local.airflow_api import AirflowApi, AirflowApiError
from include.local.compression import SETTING as TIME_COMPRESSION
from include.local.dag_runs import wait_until_parsed
from include.local.demo_backup import BackupDemo, backup
from include.local.demo_days import DemoDays, demo_days
from include.local.demo_drill import DrillDemo, drill
from include.local.demo_redeploy import (
    REDEPLOY,
    RedeployDemo,
    follow_rollout,
    judge_traffic,
    live_version,
    roll_out_champion,
)
from include.local.demo_report import Shown, good, show, write
from include.local.demo_retrain import RetrainDemo, retrain_demo
from include.local.stack import bring_up
from include.local.state import StackError, State
from include.local.traffic import Traffic

PARTS = ("retrain", "redeploy", "backup", "drill")
# Half of what four replicas of this machine are said to stand (model_api.cpu_limit), so that none is added for them.
REQUESTS_PER_SECOND = 15.0
REPLICAS_SECONDS = 45.0


def main() -> int:
    """Exit code 0 only when every verdict is good."""
    asked = _arguments()
    console = Console()
    try:
        if asked.source:
            os.environ["MLOPS_SOURCE"] = asked.source
        if asked.full:
            os.environ[TIME_COMPRESSION] = "1"
        return _show(asked.source, set(asked.only.split(",")) if asked.only else set(PARTS), console)
    except StackError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except (AirflowApiError, TimeoutError) as error:
        console.print(str(error), style="red", markup=False)
        return 1


def _show(source: str | None, parts: set[str], console: Console) -> int:
    began = time.monotonic()
    days = demo_days(source)
    running = bring_up(State.from_environment(), say=lambda line: console.print(line, markup=False)).running()
    up = time.monotonic()
    names = {"Airflow": "airflow", "MLflow": "mlflow", "model API": "model-api", "Prometheus": "prometheus"}
    addresses = {name: running[process].address for name, process in names.items()}
    api, service = AirflowApi(addresses["Airflow"]), addresses["model API"]
    if parts == {"drill"} and not _serves(service):
        parts = set(PARTS)  # there must be something to attack
    shown = Shown(RetrainDemo([], [], []), RedeployDemo(earlier=set()), BackupDemo(), DrillDemo())
    if parts & {"retrain", "redeploy"}:
        _models(shown, parts, days, api, addresses, console)
    if "backup" in parts and good(shown, so_far=True):
        backup(shown.backups, api, running["postgres"].address, console)
    if "drill" in parts and good(shown, so_far=True):
        drill(shown.drill, api, os.environ.get(TIME_COMPRESSION) == "1", console)
    show(shown, addresses, console)
    ended = time.monotonic()
    durations = {"start of the stack": up - began, "pipelines": ended - up, "demo": ended - began}
    file = write(shown, source or "simulator", addresses, durations)
    console.print(f"written to {file}", soft_wrap=True)
    return 0 if good(shown) else 1


def _serves(service: str) -> bool:
    """Whether replicas answer; those of an earlier demo come up after the stack."""
    deadline = time.monotonic() + REPLICAS_SECONDS
    while live_version(service) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return True


def _models(
    shown: Shown, parts: set[str], days: DemoDays, api: AirflowApi, addresses: Mapping[str, str], console: Console
) -> None:
    """Retrain and roll out, while a client keeps asking."""
    service = addresses["model API"]
    rollouts = shown.rollouts
    if "redeploy" in parts:
        wait_until_parsed(api, REDEPLOY, console)
        api.unpause(REDEPLOY)
        rollouts.earlier |= {run["dag_run_id"] for run in api.runs(REDEPLOY)}
    traffic = Traffic(service, _requests(days), REQUESTS_PER_SECOND)
    traffic.start()
    try:
        if "retrain" in parts:
            promoted = _rollout(parts, rollouts, api, service, console)
            shown.retrains = retrain_demo(api, addresses["MLflow"], days, console, promoted)
        else:
            roll_out_champion(rollouts, api, service, console)
    finally:
        sent = traffic.stop()
    if "redeploy" in parts:
        judge_traffic(rollouts, sent)


def _rollout(
    parts: set[str], rollouts: RedeployDemo, api: AirflowApi, service: str, console: Console
) -> Callable[[str], bool]:
    """What follows a promotion."""
    if "redeploy" not in parts:
        return lambda version: True
    return lambda version: follow_rollout(rollouts, api, service, version, console)


def _requests(days: DemoDays) -> Iterator[dict[str, object]]:
    """The transactions of the week that the second retrain ingests, as they happen."""
    day = days.as_of
    while day < days.next_as_of:
        day += timedelta(days=1)
        yield from requests_of(day)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", help="Parquet files with card transactions: a path or a quoted glob (default: simulator)"
    )
    parser.add_argument("--only", help=f"the parts to show, separated by commas: {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--full", action="store_true", help="the drill with its real times: five minutes are five minutes"
    )
    asked = parser.parse_args()
    unknown = set(asked.only.split(",")) - set(PARTS) if asked.only else set()
    if unknown:
        parser.error(f"--only {asked.only}: no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if asked.source and "://" not in asked.source:
        asked.source = str(Path(asked.source).absolute())  # the tasks do not run in the caller's folder
    return asked


if __name__ == "__main__":
    sys.exit(main())
