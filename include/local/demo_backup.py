"""The demo's backup: every database is backed up and verified, a table is lost, and a restore brings it back."""

from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from include.local.airflow_api import AirflowApi, Json
from include.local.approval import RESTORE, approve_the_next_restore
from include.local.dag_runs import DagRun, run_dag, wait_until_parsed
from include.local.demo_retrain import Verdict
from include.local.postgres_server import USER

BACKUP = "backup_databases"
DATABASE, LOST = "mlflow", "metrics"  # what is lost, and of which database


@dataclass
class BackupDemo:
    """Backups and restores, as far as they came."""

    runs: list[DagRun] = field(default_factory=list)
    backups: list[Json] = field(default_factory=list)
    restores: list[Json] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


def backup(demo: BackupDemo, api: AirflowApi, postgres: str, console: Console) -> None:
    """Back up, lose a table, restore it; a person's yes is given through the same API as the button in the UI."""
    wait_until_parsed(api, BACKUP, console)
    run = run_dag(api, BACKUP, {}, console)
    demo.runs.append(run)
    demo.backups = _backups(api, run)
    proven = [one["database"] for one in demo.backups if one["verified"]]
    good = run.state == "success" and DATABASE in proven and len(proven) == len(demo.backups)
    demo.verdicts.append(Verdict("back up", good, f"verified by a restore: {', '.join(proven) or 'none'}"))
    if good:
        _lose_and_restore(demo, api, postgres, console)


def _backups(api: AirflowApi, run: DagRun) -> list[Json]:
    """What the instances of `dump` and `verify` said, one for each database."""
    found = []
    for index in range(sum(task["task_id"] == "backup.dump" for task in run.tasks)):
        dump = api.xcom(BACKUP, run.run_id, "backup.dump", index)
        if dump:
            verified = api.xcom(BACKUP, run.run_id, "backup.verify", index) or {}
            found.append(dump | {"verified": "compared" in verified, "verification": verified.get("seconds")})
    return found


def _lose_and_restore(demo: BackupDemo, api: AirflowApi, postgres: str, console: Console) -> None:
    before = _rows(postgres)
    _execute(postgres, f"DROP TABLE {LOST}")
    console.print(f"dropped table {LOST} of {DATABASE}, which had {before:,} rows", highlight=False)
    wait_until_parsed(api, RESTORE, console)
    said = approve_the_next_restore(AirflowApi(api.address))
    run = run_dag(api, RESTORE, {"database": DATABASE, "backup": "latest", "approve": True}, console)
    demo.runs.append(run)
    plan = api.xcom(RESTORE, run.run_id, "stage") or {}
    demo.restores.append(plan | {"approved": said, "seconds": run.seconds})
    after = _rows(postgres) if run.state == "success" else None
    told = f"{LOST}: {before:,} rows, dropped, {after if after is None else format(after, ',')} rows after the restore"
    demo.verdicts.append(Verdict("restore", after == before and bool(said), told))


def _rows(postgres: str) -> int:
    return int(_execute(postgres, f"SELECT count(*) FROM {LOST}")[0][0])  # noqa: S608


def _execute(postgres: str, statement: str) -> list[Any]:
    host, _, port = postgres.rpartition(":")
    with closing(psycopg2.connect(host=host, port=port, user=USER, dbname=DATABASE)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []


def sizes(backups: list[Json]) -> Table:
    """Each backup: how large, how long, and whether it was proven."""
    table = Table("database", title="backups", title_justify="left")
    table.add_column("backup", no_wrap=True)
    for name in ("tables", "rows", "size", "dump, s", "verify, s", "verdict"):
        table.add_column(name)
    for one in backups:
        table.add_row(
            *(one["database"], one["stem"], str(one["tables"]), f"{one['rows']:,}", f"{one['size'] / 1024:,.0f} KiB"),
            *(_seconds(one["seconds"]), _seconds(one["verification"])),
            "[green]verified[/]" if one["verified"] else "[red]NOT VERIFIED[/]",
        )
    return table


def _seconds(figure: Any) -> str:
    if isinstance(figure, dict):
        figure = sum(figure.values())
    return "" if figure is None else f"{figure:.1f}"
