"""Step: the database that a restore has replaced becomes live again; the restored one is kept under another name.

`python -m include.backup.swap_back --database mlflow`

Goes back by one restore, however often it is run. Nothing is migrated: the database is as it was before the swap, and
what was written since then is in the one that is kept.
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.backup.beside import Database, Mark, administration, databases, dbname_of, kept_name, locked
from include.backup.swap import Move, exchange
from include.command import BadInput, StepArgs, run

log = logging.getLogger(__name__)


class Args(StepArgs):
    """Which database."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")


def main(args: Args) -> dict[str, Any]:
    """Answer: what is live now, and under which name the restored one is kept; done: whether that was done now."""
    live = dbname_of(args.database)
    with administration(args.database) as connection, locked(connection, live):
        there = databases(connection)
        now = there.get(live)
        if now and now.mark and now.mark.state == "back":
            return {"database": args.database, "live": live, "kept": now.mark.kept, "done": False}
        before = _before(there, now, live)
        undone = kept_name(live, "undone", time.time()) if now else None
        exchange(args.database, list(_moves(before, now, live, undone)))
    log.info("%s is live again as %s; the restored one is kept as %s", before.name, live, undone)
    return {"database": args.database, "live": live, "kept": undone, "done": True}


def _before(there: dict[str, Database], now: Database | None, live: str) -> Database:
    """What the live database has replaced; the newest that is kept when there is no live one. Raises BadInput."""
    kept = {
        name: each for name, each in there.items() if each.mark and (each.mark.live, each.mark.state) == (live, "kept")
    }
    replaced = now.mark.kept if now and now.mark else None
    wanted = replaced if now else max(kept, default=None)
    if wanted in kept:
        return kept[wanted]
    names = ", ".join(sorted(kept)) or "none"
    why = f"it has replaced {wanted!r}, which is gone" if wanted else "it is not the result of a restore that kept one"
    raise BadInput(f"{live!r} cannot go back: {why}; kept are: {names}. Restore a backup instead")


def _moves(before: Database, now: Database | None, live: str, undone: str | None) -> list[Move]:
    assert before.mark is not None
    mark = before.mark.model_copy(update={"at": time.time()})
    moves = []
    if now is not None and undone is not None:
        moves.append(Move(live, undone, False, mark.model_copy(update={"state": "undone"})))
    back: Mark = mark.model_copy(update={"state": "back", "kept": undone})
    return [*moves, Move(before.name, live, True, back)]


if __name__ == "__main__":
    run(main)
