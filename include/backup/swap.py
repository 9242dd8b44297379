"""Step: make the staged database the live one, in one transaction; then the owner's migration, once, and a smoke test.

`python -m include.backup.swap --plan "$(cat plan.json)"`

Until the commit the live database is as it was, however this step ends: connections to it are ended while the renaming
holds them off, and that is undone with the transaction. Run again after the commit it renames nothing, and goes on with
what is left to do. The migration (MLOPS_RESTORE_MIGRATIONS) is begun at most once: how far it came is in the comment of
the database.
"""

import contextlib
import logging
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.errors import Error, InsufficientPrivilege, ObjectInUse  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]

from include.backup.beside import (
    MAINTENANCE,
    Database,
    Mark,
    State,
    administration,
    comment_on,
    databases,
    locked,
)
from include.backup.connection import connect, one, rows
from include.backup.contents import counts
from include.backup.plan import REPLACE, Plan
from include.command import BadInput, Refused, StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

END_SECONDS = 0.05  # between two looks for connections to end
LOCK_TIMEOUT = "30s"
SAID_LINES = 20


class Args(StepArgs):
    """What `stage` answered."""

    plan: Plan


class Move(NamedTuple):
    """A database gets another name, a comment, and perhaps nobody may connect to it any more."""

    name: str
    to: str
    connectable: bool
    comment: Mark | str | None


def main(args: Args) -> dict[str, Any]:
    """Answer: what is live now and what is kept. Raises Refused, with the command that goes back, when that is bad."""
    plan = args.plan
    with administration(plan.database) as connection, locked(connection, plan.live):
        swapped = _swap(connection, plan)
        try:
            migration = _migrate(connection, plan)
            smoke = _smoke(plan, migrated=migration is not None)
        except Refused as refusal:
            raise Refused(
                f"{refusal}; {_way_back(plan)}", {"database": plan.database, "kept": plan.kept_as}
            ) from refusal
        except Exception as error:
            raise RuntimeError(f"after the swap: {error}; a retry goes on from there; {_way_back(plan)}") from error
    return {
        "database": plan.database,
        "live": plan.goes_to,
        "kept": plan.kept_as,
        "stem": plan.stem,
        "swapped": swapped,
        "migration": migration,
        **smoke,
    }


def exchange(service: str, moves: Sequence[Move]) -> None:
    """Rename all of them in one transaction while nobody is connected to any.

    Raises RuntimeError, with nothing changed, when somebody cannot be disconnected.
    """
    with closing(connect(service, dbname=MAINTENANCE)) as connection, _disconnected(service, [m.name for m in moves]):
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
                for move in moves:
                    for statement in _statements(move):
                        cursor.execute(statement)
        except ObjectInUse as error:
            raise RuntimeError(f"{str(error).strip()}; nothing was changed. {_who(connection, moves)}") from error


def _swap(connection: Connection, plan: Plan) -> bool:
    """Whether it was done now; False: by an earlier try."""
    there = databases(connection)
    staged, live = there.get(plan.staged), there.get(plan.goes_to)
    if staged is None and live is not None and _is_of(live, plan, "swapped", "migrating", "migrated", "failed"):
        return False
    if staged is None or not _is_of(staged, plan, "staged"):
        raise BadInput(
            f"there is no database {plan.staged!r} of the restore {plan.restore_id!r}: it was discarded, or swapped "
            "and gone back from; stage it again: python -m include.backup.stage"
        )
    if (live is None) != (plan.kept_as is None):
        what = "did not exist" if live else "existed"
        raise BadInput(f"{plan.goes_to!r} {what} when this restore was staged; discard it and stage it again")
    exchange(plan.database, list(_moves(plan, staged, live)))
    log.info("%s is live now; before it: %s", plan.stem, plan.kept_as or "nothing")
    return True


def _moves(plan: Plan, staged: Database, live: Database | None) -> Iterator[Move]:
    comment = live.own_comment if live else None
    mark = Mark(
        restore_id=plan.restore_id,
        state="swapped",
        live=plan.live,
        stem=plan.stem,
        at=time.time(),
        kept=plan.kept_as,
        comment=comment,
    )
    if live is not None and plan.kept_as is not None:
        yield Move(live.name, plan.kept_as, False, mark.model_copy(update={"state": "kept"}))
    yield Move(staged.name, plan.goes_to, True, mark)


def _statements(move: Move) -> Iterator[sql.Composable]:
    name, to = sql.Identifier(move.name), sql.Identifier(move.to)
    yield sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, to)
    yield sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(to, sql.Literal(move.connectable))
    yield comment_on(move.to, move.comment)


@contextlib.contextmanager
def _disconnected(service: str, names: Sequence[str]) -> Iterator[None]:
    """End the connections to these databases again and again, until the block ends.

    The renaming waits for them for five seconds, and meanwhile lets nobody in; it does not send them away itself.
    """
    over = threading.Event()

    def keep_ending(connection: Connection) -> None:
        while not over.is_set():
            _end_connections(connection, names)
            over.wait(END_SECONDS)

    with administration(service) as connection:
        _end_connections(connection, names)
        thread = threading.Thread(target=keep_ending, args=(connection,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _end_connections(connection: Connection, names: Sequence[str]) -> None:
    for pid, user in _connected(connection, names):
        try:
            one(connection, "SELECT pg_terminate_backend(%s)", pid)
        except InsufficientPrivilege:
            log.debug("the connection of %s (server process %d) may not be ended by this role", user, pid)
        except Error as error:
            log.warning("connections cannot be ended: %s", str(error).strip())
            return


def _connected(connection: Connection, names: Sequence[str]) -> list[tuple[int, str]]:
    """Without autovacuum workers, which the server ends itself for a renaming. What the type is, is not told of all."""
    query = """
        SELECT pid, coalesce(usename, backend_type, '?') FROM pg_stat_activity
        WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND backend_type IS DISTINCT FROM 'autovacuum worker'"""
    return [(pid, user) for pid, user in rows(connection, query, list(names))]


def _who(connection: Connection, moves: Sequence[Move]) -> str:
    still = _connected(connection, [move.name for move in moves])
    connection.rollback()
    who = ", ".join(f"{user} (server process {pid})" for pid, user in still) or "nobody any more: try again"
    return f"Still connected: {who}. End these sessions (and prepared transactions), or let a superuser run the restore"


def _migrate(connection: Connection, plan: Plan) -> str | None:
    """The command that has run, now or earlier; None when the owner has none."""
    command = settings().restore_migrations.get(plan.database)
    if not command or plan.target != REPLACE:
        return None
    words = shlex.join(command)
    mark = _live_mark(connection, plan)
    if mark.state == "migrated":
        return words
    if mark.state != "swapped":
        how = "has failed" if mark.state == "failed" else "was begun and did not end"
        raise Refused(f"the migration {words!r} {how} in an earlier try; it is not run again")
    _set_state(connection, plan, mark, "migrating")
    log.info("migration: %s", words)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        _set_state(connection, plan, mark, "failed")
        raise Refused(
            f"the migration {words!r} cannot be started ({error}); correct MLOPS_RESTORE_MIGRATIONS"
        ) from error
    said = done.stdout.decode(errors="replace").splitlines()
    for line in said:
        log.info("  %s", line)
    if done.returncode:
        _set_state(connection, plan, mark, "failed")
        last = " / ".join(said[-SAID_LINES:]) or "nothing"
        raise Refused(f"the migration {words!r} ended with exit code {done.returncode} and said: {last}")
    _set_state(connection, plan, mark, "migrated")
    return words


def _smoke(plan: Plan, migrated: bool) -> dict[str, Any]:
    """What a client of the service finds."""
    other = {} if plan.target == REPLACE else {"dbname": plan.target}
    with closing(connect(plan.database, **other)) as connection:
        found = counts(connection)
    log.info("smoke: %d tables, %d rows", len(found), sum(found.values()))
    if len(found) < plan.tables and not migrated:
        raise Refused(f"smoke test: {len(found)} tables, and {plan.tables} were restored")
    if plan.rows and not sum(found.values()):
        raise Refused(f"smoke test: no table has any row, and {plan.rows:,} rows were restored")
    return {"tables": len(found), "rows": sum(found.values())}


def _is_of(database: Database, plan: Plan, *states: State) -> bool:
    mark = database.mark
    if mark is None or mark.state not in states:
        return False
    return (mark.restore_id, mark.stem) == (plan.restore_id, plan.stem) and mark.kept in (None, plan.kept_as)


def _live_mark(connection: Connection, plan: Plan) -> Mark:
    mark = databases(connection)[plan.goes_to].mark
    if mark is None:
        raise Refused(f"the comment of {plan.goes_to!r}, which says how far the restore came, is gone")
    return mark


def _set_state(connection: Connection, plan: Plan, mark: Mark, state: State) -> None:
    with connection.cursor() as cursor:
        cursor.execute(comment_on(plan.goes_to, mark.model_copy(update={"state": state})))


def _way_back(plan: Plan) -> str:
    if plan.kept_as is None:
        return "there was nothing before it to go back to"
    database = shlex.quote(plan.database)
    return f"to go back to the database as it was: python -m include.backup.swap_back --database {database}"


if __name__ == "__main__":
    run(main)
