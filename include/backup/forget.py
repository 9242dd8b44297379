"""Step: drop what restores have kept beside the live database for long enough (MLOPS_RESTORE_KEEP_DAYS).

`python -m include.backup.forget --database mlflow`
"""

import time
from typing import Any

from pydantic import Field

from include.backup.beside import administration, databases, dbname_of, drop, locked
from include.command import StepArgs, run
from include.settings import settings

DAY = 86_400
FORGOTTEN = ("kept", "undone", "staged")  # a staged one that old was left by a restore that nobody ended


class Args(StepArgs):
    """Which database."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")


def main(args: Args) -> dict[str, Any]:
    """Answer: which databases were dropped, and which are kept still."""
    live = dbname_of(args.database)
    until = time.time() - settings().restore_keep_days * DAY
    with administration(args.database) as connection, locked(connection, live):
        ours = {
            each.name: each.mark.at
            for each in databases(connection).values()
            if each.mark and each.mark.live == live and each.mark.state in FORGOTTEN and each.name != live
        }
        dropped = sorted(name for name, since in ours.items() if since < until)
        for name in dropped:
            drop(connection, name)
    return {"database": args.database, "dropped": dropped, "kept": sorted(set(ours) - set(dropped))}


if __name__ == "__main__":
    run(main)
