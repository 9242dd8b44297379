"""Start a DAG run through the scheduler and show its tasks until it has ended."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from include.local.airflow_api import FINISHED, AirflowApi, Json

POLL_SECONDS = 1.5
RUN_LIMIT_SECONDS = 3600.0
PARSE_LIMIT_SECONDS = 180.0
LOG_LINES = 15
COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "running": "yellow", "skipped": "magenta"}


@dataclass(frozen=True)
class DagRun:
    """A run that has ended."""

    dag_id: str
    run_id: str
    conf: Mapping[str, Any]
    state: str
    seconds: float
    tasks: list[Json]

    @property
    def title(self) -> str:
        """The DAG and what it was asked for, for people."""
        return title(self.dag_id, self.conf)

    def failed_tasks(self) -> list[Json]:
        """The tasks that failed themselves."""
        return [task for task in self.tasks if task["state"] == "failed"]


def title(dag_id: str, conf: Mapping[str, Any]) -> str:
    """``retrain_model (as_of 2025-06-29)``"""
    return f"{dag_id} ({', '.join(f'{name} {value}' for name, value in conf.items())})"


def wait_until_parsed(api: AirflowApi, dag_id: str, console: Console) -> None:
    """Wait until Airflow knows the DAG."""
    began = time.monotonic()
    told = began
    while api.dag(dag_id) is None:
        now = time.monotonic()
        if now - began > PARSE_LIMIT_SECONDS:
            broken = "\n".join(f"{file}:\n{trace}" for file, trace in api.import_errors().items())
            why = broken or "no file in dags/ defines it"
            raise TimeoutError(f"Airflow has not found the DAG {dag_id} within {PARSE_LIMIT_SECONDS:.0f} s: {why}")
        if now - told > 10:
            told = now
            console.print(f"waiting for Airflow to read {dag_id}: {now - began:.0f} s")
        time.sleep(1)


def run_dag(api: AirflowApi, dag_id: str, conf: Mapping[str, Any], console: Console) -> DagRun:
    """Trigger the DAG and follow the run."""
    api.unpause(dag_id)
    return follow_run(api, dag_id, api.trigger(dag_id, conf), conf, console)


def follow_run(api: AirflowApi, dag_id: str, run_id: str, conf: Mapping[str, Any], console: Console) -> DagRun:
    """Follow the run to its end, show the log of what failed."""
    began = time.monotonic()
    if console.is_terminal:
        state = _follow_live(api, dag_id, run_id, conf, console, began)
    else:
        state = _follow_in_lines(api, dag_id, run_id, conf, began)
    run = DagRun(dag_id, run_id, conf, state, time.monotonic() - began, api.task_instances(dag_id, run_id))
    for task in run.failed_tasks():
        console.print(f"[red]{run.dag_id}.{task['task_id']} failed[/]; the end of its log:", highlight=False)
        console.print(
            "\n".join(f"  {line}" for line in api.log(dag_id, run_id, task)[-LOG_LINES:]), markup=False, highlight=False
        )
    return run


def _follow_live(
    api: AirflowApi, dag_id: str, run_id: str, conf: Mapping[str, Any], console: Console, began: float
) -> str:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            state = api.run_state(dag_id, run_id)
            seconds = _seconds_since(began, run_id)
            table = Table(
                "task",
                "states",
                title=f"{title(dag_id, conf)}: {state}, {seconds:.0f} s",
                title_justify="left",
                min_width=70,
            )
            for task_id, counts in _states(api, dag_id, run_id).items():
                table.add_row(task_id, _coloured(counts))
            live.update(table, refresh=True)
            if state in FINISHED:
                return state
            time.sleep(POLL_SECONDS)


def _follow_in_lines(api: AirflowApi, dag_id: str, run_id: str, conf: Mapping[str, Any], began: float) -> str:
    print(title(dag_id, conf), flush=True)
    shown: dict[str, Counter[str]] = {}
    while True:
        state = api.run_state(dag_id, run_id)
        seconds = _seconds_since(began, run_id)
        states = _states(api, dag_id, run_id)
        for task_id, counts in states.items():
            if shown.get(task_id) != counts and set(counts) != {"waiting"}:
                print(f"  {seconds:4.0f} s  {task_id}: {_plain(counts)}", flush=True)
        shown = states
        if state in FINISHED:
            print(f"  {seconds:4.0f} s  {state}", flush=True)
            return state
        time.sleep(POLL_SECONDS)


def _seconds_since(began: float, run_id: str) -> float:
    seconds = time.monotonic() - began
    if seconds > RUN_LIMIT_SECONDS:
        raise TimeoutError(f"run {run_id} has not ended within {RUN_LIMIT_SECONDS:.0f} s; see it in Airflow's page")
    return seconds


def _states(api: AirflowApi, dag_id: str, run_id: str) -> dict[str, Counter[str]]:
    states: dict[str, Counter[str]] = {}
    for task in api.task_instances(dag_id, run_id):
        states.setdefault(task["task_id"], Counter())[task["state"] or "waiting"] += 1
    return states


def _plain(counts: Counter[str]) -> str:
    many = counts.total() > 1
    return ", ".join(f"{number} {state}" if many else state for state, number in sorted(counts.items()))


def _coloured(counts: Counter[str]) -> str:
    colour = next((colour for state, colour in COLOURS.items() if state in counts and len(counts) == 1), "")
    colour = (
        "red" if {"failed", "upstream_failed"} & set(counts) else colour or ("yellow" if "running" in counts else "")
    )
    return f"[{colour}]{_plain(counts)}[/]" if colour else _plain(counts)
