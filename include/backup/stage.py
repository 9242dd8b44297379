"""Step: restore a backup into a new database beside the live one, compare it, and tell what a swap would change.

`python -m include.backup.stage --database mlflow --backup latest`

The live database is only read. The role of the restore's service (PGSERVICEFILE) needs CREATEDB, membership in the
owner of the database and of what is in it, and pg_signal_backend to end the connections of others at the swap;
a superuser is needed only for what PostgreSQL leaves to superusers, such as extensions that are not trusted.
"""

import contextlib
import logging
import shlex
import time
from contextlib import closing

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.errors import Error  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from pydantic import Field

from include.backup.beside import (
    BY_HAND,
    LONGEST_NAME,
    MAINTENANCE,
    Database,
    Mark,
    administration,
    databases,
    dbname_of,
    drop,
    locked,
    staged,
    staged_name,
)
from include.backup.catalogue import Backup, choose
from include.backup.connection import connect, conninfo, one, rows
from include.backup.contents import counts
from include.backup.manifest import Manifest
from include.backup.new_database import create_beside
from include.backup.plan import REPLACE, Plan, planned
from include.backup.store import store
from include.backup.verify import check_extensions, check_file, compare, restore_dump
from include.command import BadInput, Refused, StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

OF_AIRFLOW = {"dag_run", "task_instance", "job"}  # tables of Airflow's own database


class Args(StepArgs):
    """Which backup goes where."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")
    backup: str = Field("latest", description="latest (the newest verified one), or a name or number that `list` shows")
    target: str = Field(REPLACE, min_length=1, description="replace: the live database; or the name of a new one")
    restore_id: str = Field(BY_HAND, min_length=1, description="id that tells this restore from others: the DAG run's")
    allow_unverified: bool = Field(False, description="also a backup that was never verified, or failed to be")
    by_airflow: bool = Field(False, description="a run of Airflow asks: it may not replace Airflow's own database")


def main(args: Args) -> Plan:
    """Answer: the plan. Raises BadInput before anything is made, Refused when the backup is not what it should be."""
    kept = store(settings().backup_uri)
    backup = choose(kept, args.database, args.backup)
    manifest = backup.manifest
    _refuse_unverified(backup, args)
    _refuse_airflow(manifest, args)
    live = dbname_of(args.database)
    with administration(args.database) as connection, locked(connection, live):
        there = databases(connection)
        _refuse_target(there, live, args)
        owner = there[live].owner if live in there else manifest.owner
        _refuse_server(connection, manifest)
        _refuse_roles(connection, manifest, owner)
        check_extensions(connection, manifest, f"the server of {args.database!r}")
        _clear(connection, there, live, manifest.stem, args)
        try:
            check_file(kept, backup)
        except Refused as refusal:
            look = f"python -m include.backup.list --database {shlex.quote(args.database)}"
            raise Refused(f"{refusal}; choose another: {look}") from refusal
        name = staged_name(live, manifest.stem)
        mark = Mark(restore_id=args.restore_id, state="staged", live=live, stem=manifest.stem, at=time.time())
        try:
            notes = create_beside(connection, there.get(live), name, owner, manifest, mark)
            restore_dump(kept, manifest, conninfo(args.database, dbname=name))
            with closing(connect(args.database, dbname=name)) as restored:
                notes += compare(restored, manifest)
                then = counts(restored)
                restored.rollback()
                restored.autocommit = True
                with restored.cursor() as cursor:
                    cursor.execute("ANALYZE")
        except BaseException:
            with contextlib.suppress(Error):  # the server may be gone; the next try drops it
                drop(connection, name)
            raise
    now = _rows_now(args.database, live, notes) if live in there else {}
    plan = planned(args.target, args.restore_id, manifest, live, name, now, then, notes, live in there)
    log.info("%s", plan.summary.split("\n", 1)[0].replace("**", ""))
    return plan


def _refuse_unverified(backup: Backup, args: Args) -> None:
    if backup.verified is None and not args.allow_unverified:
        stem = backup.manifest.stem
        raise BadInput(
            f"--backup {args.backup}: {stem} of {args.database!r} is not verified; verify it (python -m "
            f"include.backup.verify --database {args.database} --backup {stem}), or allow it: --allow-unverified true"
        )


def _refuse_airflow(manifest: Manifest, args: Args) -> None:
    """Whatever it is called: a run that replaces the database in which it is recorded would not know of its own end."""
    if args.by_airflow and args.target == REPLACE and {table.name for table in manifest.contents} >= OF_AIRFLOW:
        raise BadInput(
            f"--target replace: {args.database!r} is a database of Airflow, which cannot replace its own records; "
            "stop Airflow and follow docs/runbooks/restore-without-airflow.md, or restore it to a new name"
        )


def _refuse_target(there: dict[str, Database], live: str, args: Args) -> None:
    name = args.target
    if name == REPLACE:
        if live == MAINTENANCE:
            raise BadInput(f"--target replace: {live} is the database from which others are renamed; give a new name")
    elif name == live:
        raise BadInput(f"--target {name!r} is the live database; say --target replace to replace it, or give another")
    elif name in there:
        raise BadInput(f"--target {name!r}: the server has a database of that name; give another, or drop that one")
    elif len(name.encode()) > LONGEST_NAME:
        raise BadInput(f"--target {name!r} has more than {LONGEST_NAME} bytes, which PostgreSQL cuts off; shorten it")


def _refuse_server(connection: Connection, manifest: Manifest) -> None:
    here = int(one(connection, "SHOW server_version_num")) // 10_000
    if manifest.server_version_num // 10_000 > here:
        raise BadInput(
            f"{manifest.stem} was made by PostgreSQL {manifest.server_version}, the server that is to hold it is of "
            f"version {here}; restore it to a server of {manifest.server_version_num // 10_000} or newer"
        )


def _refuse_roles(connection: Connection, manifest: Manifest, owner: str) -> None:
    there = {name for (name,) in rows(connection, "SELECT rolname FROM pg_roles")}
    if missing := sorted({*manifest.roles, owner} - there):
        names = (sql.Identifier(name).as_string(connection) for name in missing)
        create = " ".join(f"CREATE ROLE {name};" for name in names)
        raise BadInput(f"{manifest.stem} needs roles that the server does not have; create them: {create}")
    wanted = rows(
        connection,
        "SELECT quote_ident(current_user), rolsuper, rolcreatedb, pg_has_role(%s, 'MEMBER'), "
        "pg_has_role('pg_signal_backend', 'MEMBER') FROM pg_roles WHERE rolname = current_user",
        owner,
    )
    me, superuser, creates, owns, signals = wanted[0]
    fixes = [
        *([] if creates else [f"ALTER ROLE {me} CREATEDB;"]),
        *([] if owns else [f"GRANT {sql.Identifier(owner).as_string(connection)} TO {me};"]),
        *([] if signals else [f"GRANT pg_signal_backend TO {me};"]),
    ]
    if fixes and not superuser:
        raise BadInput(f"the role {me} may not restore; let a superuser run: {' '.join(fixes)}")


def _clear(connection: Connection, there: dict[str, Database], live: str, stem: str, args: Args) -> None:
    """Drop what an earlier try of this restore left. Raises BadInput when the name is another's."""
    ours = [each for each in staged(connection, live) if each.mark is None or each.mark.restore_id == args.restore_id]
    for each in ours:
        drop(connection, each.name)
    name = staged_name(live, stem)
    if name not in there or name in {each.name for each in ours}:
        return
    mark = there[name].mark
    if mark is None:
        raise BadInput(f"the server has a database {name!r} that no restore has made; rename it or drop it")
    raise BadInput(
        f"the restore {mark.restore_id!r} has staged {stem} already and waits; let it end, or drop what it staged: "
        f"python -m include.backup.discard --database {shlex.quote(args.database)} "
        f"--restore-id {shlex.quote(mark.restore_id)}"
    )


def _rows_now(database: str, live: str, notes: list[str]) -> dict[str, int] | None:
    """None, with a note, when this role may not count them all: that is no reason not to restore."""
    try:
        with closing(connect(database, dbname=live)) as connection:
            return counts(connection)
    except (Error, BadInput) as error:
        notes.append(f"the rows of the live database cannot be counted: {str(error).strip()}")
        return None


if __name__ == "__main__":
    run(main)
