"""Restore a database by hand, without Airflow: stage, show what would change, ask, swap.

`python -m include.backup.restore --database mlflow --backup latest`

docs/runbooks/restore-without-airflow.md has the whole way. PGSERVICEFILE names the file with the roles for restores.
"""

import sys
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from include.backup import discard, stage, swap
from include.backup.plan import MOST_SHOWN, REPLACE, Plan
from include.command import BadInput, StepArgs, run


class Args(StepArgs):
    """What to restore, and whether to ask."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")
    backup: str = Field("latest", description="latest (the newest verified one), or a name or number that `list` shows")
    target: str = Field(REPLACE, min_length=1, description="replace: the live database; or the name of a new one")
    allow_unverified: bool = Field(False, description="also a backup that was never verified, or failed to be")
    dry_run: bool = Field(False, description="show what would change, drop what was staged, and change nothing")
    yes: bool = Field(False, description="do not ask")


def main(args: Args) -> dict[str, Any]:
    """Answer: the plan, and what became of it (`restored`: false after a no or a dry run)."""
    if not (args.yes or args.dry_run or sys.stdin.isatty()):
        raise BadInput("there is no terminal to ask on; say --yes true to restore without asking, or --dry-run true")
    plan = stage.main(
        stage.Args(
            database=args.database, backup=args.backup, target=args.target, allow_unverified=args.allow_unverified
        )
    )
    console = Console(stderr=True)
    _show(console, plan)
    if args.dry_run or not (args.yes or _agreed(console, plan)):
        dropped = discard.main(discard.Args(database=args.database))
        console.print("Nothing was changed.")
        return {"restored": False, "plan": plan.model_dump(), **dropped}
    return {"restored": True, "plan": plan.model_dump(), **swap.main(swap.Args(plan=plan))}


def _show(console: Console, plan: Plan) -> None:
    table = Table("table", "rows now", "rows after the restore")
    for change in plan.changes[:MOST_SHOWN]:
        table.add_row(change.table, _rows(change.rows_now), _rows(change.rows_then))
    if plan.changes:
        console.print(table)
    shown = min(len(plan.changes), MOST_SHOWN)
    console.print(f"{plan.changed_tables} of {plan.tables} tables change their number of rows ({shown} shown).")
    for note in plan.notes:
        console.print(f"Note: {note}", markup=False)


def _agreed(console: Console, plan: Plan) -> bool:
    """Whoever replaces a database writes its name."""
    console.print(f"Type {plan.goes_to} to go on, anything else to leave it: ", end="", markup=False)
    try:
        return input() == plan.goes_to
    except EOFError:
        return False


def _rows(count: int | None) -> str:
    return "no such table" if count is None else f"{count:,}"


if __name__ == "__main__":
    run(main)
