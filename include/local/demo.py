"""Show the repository at work on this machine: ``python -m include.local.demo [--source FILES] [--only PARTS]``.

Starts the local stack, then lets the real scheduler run the DAGs. Ends with tables, the addresses of the pages, and
``build/demo/summary.json``. Exit code 0 only when every verdict is good; 2 when it cannot be done as asked.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from rich.console import Console

from include.local.airflow_api import AirflowApi, AirflowApiError
from include.local.demo_days import demo_days
from include.local.demo_report import good, show, write
from include.local.demo_retrain import retrain_demo
from include.local.stack import bring_up
from include.local.state import StackError, State

PARTS = ("retrain",)


def main() -> int:
    """Exit code 0 only when every verdict is good."""
    asked = _arguments()
    console = Console()
    try:
        if asked.source:
            os.environ["MLOPS_SOURCE"] = asked.source
        return _show_retraining(asked.source, console)
    except StackError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except (AirflowApiError, TimeoutError) as error:
        console.print(str(error), style="red", markup=False)
        return 1


def _show_retraining(source: str | None, console: Console) -> int:
    began = time.monotonic()
    days = demo_days(source)
    running = bring_up(State.from_environment(), say=lambda line: console.print(line, markup=False)).running()
    up = time.monotonic()
    addresses = {"Airflow": running["airflow"].address, "MLflow": running["mlflow"].address}
    demo = retrain_demo(AirflowApi(addresses["Airflow"]), addresses["MLflow"], days, console)
    show(demo, addresses, console)
    ended = time.monotonic()
    durations = {"start of the stack": up - began, "retrain": ended - up, "demo": ended - began}
    console.print(f"written to {write(demo, source or 'simulator', addresses, durations)}", soft_wrap=True)
    return 0 if good(demo) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", help="Parquet files with card transactions: a path or a quoted glob (default: simulator)"
    )
    parser.add_argument("--only", help=f"the parts to show, separated by commas: {', '.join(PARTS)} (default: all)")
    asked = parser.parse_args()
    unknown = set(asked.only.split(",")) - set(PARTS) if asked.only else set()
    if unknown:
        parser.error(f"--only {asked.only}: no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if asked.source and "://" not in asked.source:
        asked.source = str(Path(asked.source).absolute())  # the tasks do not run in the caller's folder
    return asked


if __name__ == "__main__":
    sys.exit(main())
