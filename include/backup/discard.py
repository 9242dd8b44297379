"""Step: drop the database that a restore has staged: after a no, a time-out or a dry run.

`python -m include.backup.discard --database mlflow --restore-id "by hand"`
"""

from typing import Any

from pydantic import Field

from include.backup.beside import BY_HAND, Database, administration, dbname_of, drop, locked, staged
from include.command import StepArgs, run


class Args(StepArgs):
    """Which restore to end."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")
    restore_id: str = Field(BY_HAND, min_length=1, description="id of the restore, as `stage` got it")


def main(args: Args) -> dict[str, Any]:
    """Answer: which databases were dropped. None is fine."""
    live = dbname_of(args.database)
    with administration(args.database) as connection, locked(connection, live):
        dropped = [each.name for each in staged(connection, live) if _of(each, args.restore_id)]
        for name in dropped:
            drop(connection, name)
    return {"database": args.database, "dropped": dropped}


def _of(each: Database, restore_id: str) -> bool:
    return each.mark is None or each.mark.restore_id == restore_id


if __name__ == "__main__":
    run(main)
