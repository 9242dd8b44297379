"""What a restore has staged, what a swap would change, and how that is told to who decides."""

import time
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from include.backup.beside import (
    kept_name,
)
from include.backup.manifest import Manifest
from include.settings import settings

REPLACE = "replace"
MOST_CHANGES = 100  # they go through the DAG
MOST_SHOWN = 30  # to the person who approves


class Change(BaseModel):
    """A table whose number of rows the swap would change; None: there is no such table."""

    table: str
    rows_now: int | None
    rows_then: int | None


class Plan(BaseModel):
    """What was staged, and what a swap would do."""

    database: str
    live: str
    target: str
    staged: str
    kept_as: str | None  # None: there is no live database that would have to be kept
    restore_id: str
    stem: str
    made: float
    age_seconds: float
    tables: int
    rows: int
    changes: list[Change]
    changed_tables: int  # `changes` holds the largest of them
    notes: list[str]
    summary: str

    @property
    def goes_to(self) -> str:
        """The name that the staged database will have."""
        return self.live if self.target == REPLACE else self.target


def planned(
    target: str,
    restore_id: str,
    manifest: Manifest,
    live: str,
    name: str,
    now: dict[str, int] | None,
    then: dict[str, int],
    notes: list[str],
    live_is_there: bool,
) -> Plan:
    """What `stage` answers. `now`: rows by table of the live database, None where nobody may count them."""
    changes = [] if now is None else _changes(now, then)
    if target != REPLACE:
        kept_as, first = None, f"`{target}` is a new database"
    elif live_is_there:
        kept_as = kept_name(live, "before", time.time())
        first = f"`{live}` is replaced, and kept as `{kept_as}` for {settings().restore_keep_days} days"
    else:
        kept_as, first = None, f"`{live}` does not exist, and is made"
    age = max(0.0, time.time() - manifest.started)
    when = f"{datetime.fromtimestamp(manifest.started, UTC):%Y-%m-%d %H:%M} UTC, {timedelta(seconds=round(age))} ago"
    told = [
        f"**Restore {manifest.database} from {manifest.stem}**, made {when}: {first}.",
        _table(changes, len(then)) if now is not None else f"{len(then)} tables, {sum(then.values()):,} rows.",
        *(f"- {note}" for note in notes),
    ]
    return Plan(
        database=manifest.database,
        live=live,
        target=target,
        staged=name,
        kept_as=kept_as,
        restore_id=restore_id,
        stem=manifest.stem,
        made=manifest.started,
        age_seconds=round(age, 1),
        tables=len(then),
        rows=sum(then.values()),
        changes=changes[:MOST_CHANGES],
        changed_tables=len(changes),
        notes=notes,
        summary="\n\n".join(told),
    )


def _changes(now: dict[str, int], then: dict[str, int]) -> list[Change]:
    """The largest first."""
    changes = [
        Change(table=table, rows_now=now.get(table), rows_then=then.get(table))
        for table in sorted({*now, *then})
        if now.get(table) != then.get(table)
    ]
    return sorted(changes, key=lambda change: -abs((change.rows_now or 0) - (change.rows_then or 0)))


def _table(changes: list[Change], tables: int) -> str:
    if not changes:
        return f"All {tables} tables have as many rows as now."
    lines = ["| table | rows now | rows after the restore |", "|---|---:|---:|"]
    lines += [f"| {c.table} | {_rows(c.rows_now)} | {_rows(c.rows_then)} |" for c in changes[:MOST_SHOWN]]
    more = [f"\n… and {len(changes) - MOST_SHOWN} more tables."] if len(changes) > MOST_SHOWN else []
    return "\n".join([*lines, *more])


def _rows(count: int | None) -> str:
    return "no such table" if count is None else f"{count:,}"
