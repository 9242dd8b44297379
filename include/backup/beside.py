"""What restores keep beside the live database, and who may touch it. Each says in its comment whose it is:

    <dbname>__restore_<backup>    staged: restored and compared, and not live yet
    <dbname>__before_<time>       was live until a restore replaced it; nobody can connect to it
    <dbname>__undone_<time>       was live until somebody went back; nobody can connect to it

What has no such comment is never touched.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError

from include.backup.connection import connect, one, rows
from include.command import BadInput

log = logging.getLogger(__name__)

MAINTENANCE = "postgres"  # the database from which others are created, renamed and dropped
LOCK = 0x6D6C6F72
BY_HAND = "by hand"
LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer ones off without an error
KEY = "mlops-restore"

State = Literal["staged", "swapped", "migrating", "migrated", "failed", "kept", "back", "undone"]


class Mark(BaseModel):
    """What the comment of a database says that a restore has made, replaced, or made live."""

    restore_id: str
    state: State
    live: str  # name of the live database
    stem: str
    at: float
    kept: str | None = None  # the name under which the database that it replaced is kept
    comment: str | None = None  # what the comment was before a restore used it


class Database(NamedTuple):
    """A database of the server."""

    name: str
    owner: str
    connectable: bool
    comment: str | None
    mark: Mark | None

    @property
    def own_comment(self) -> str | None:
        """What people wrote into its comment."""
        return self.mark.comment if self.mark else self.comment


def staged_name(live: str, stem: str) -> str:
    """Of the database into which that backup is restored."""
    return _beside(live, f"__restore_{stem}")


def kept_name(live: str, what: Literal["before", "undone"], now: float) -> str:
    """Of the database that was live until now."""
    return _beside(live, f"__{what}_{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}")


def dbname_of(service: str) -> str:
    """The real name of the database, which perhaps does not exist any more. Raises BadInput."""
    path = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    section = False
    found: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read ({error.strerror}); set PGSERVICEFILE to the file of services"
        ) from error
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line == f"[{service}]" and not found
        elif section and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name] = value
    if not found.get("dbname"):
        raise BadInput(f"database {service!r}: {path} has no dbname= in [{service}]; add it")
    return found["dbname"]


@contextlib.contextmanager
def administration(service: str) -> Iterator[Connection]:
    """A connection to the server's maintenance database, without transactions."""
    with closing(connect(service, dbname=MAINTENANCE)) as connection:
        connection.autocommit = True
        yield connection


@contextlib.contextmanager
def locked(connection: Connection, live: str) -> Iterator[None]:
    """One restore of a database at a time; the lock ends with the connection. Raises RuntimeError when it is held."""
    if not one(connection, "SELECT pg_try_advisory_lock(%s, hashtext(%s))", LOCK, live):
        holder = rows(
            connection,
            "SELECT l.pid, a.application_name FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.classid::bigint = %s AND l.granted "
            "AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid",
            LOCK,
            live,
        )
        who = ", ".join(f"server process {pid} of {name or 'an unknown program'}" for pid, name in holder)
        raise RuntimeError(f"another restore of {live!r} is under way ({who}): try again when it has ended")
    try:
        yield
    finally:
        if not connection.closed:
            one(connection, "SELECT pg_advisory_unlock(%s, hashtext(%s))", LOCK, live)


def databases(connection: Connection) -> dict[str, Database]:
    """The server's databases by name."""
    found = rows(
        connection,
        "SELECT datname, pg_get_userbyid(datdba), datallowconn, shobj_description(oid, 'pg_database') FROM pg_database",
    )
    return {name: Database(name, owner, allow, comment, _mark(comment)) for name, owner, allow, comment in found}


def staged(connection: Connection, live: str) -> list[Database]:
    """What restores have staged beside the live database, oldest backup first."""
    return [
        each
        for name, each in sorted(databases(connection).items())
        if (each.mark and (each.mark.live, each.mark.state) == (live, "staged")) or _unmarked(each, live)
    ]


def comment_on(name: str, comment: Mark | str | None) -> sql.Composable:
    """The statement that sets a database's comment."""
    text = json.dumps({KEY: comment.model_dump()}) if isinstance(comment, Mark) else comment
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text))


def drop(connection: Connection, name: str) -> None:
    """With whoever is connected to it."""
    log.info("dropping database %s", name)
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _beside(live: str, suffix: str) -> str:
    """A name that PostgreSQL does not cut off; a long one is told from others by a part of its checksum."""
    if len((live + suffix).encode()) <= LONGEST_NAME:
        return live + suffix
    told = f"~{hashlib.sha256(live.encode()).hexdigest()[:8]}{suffix}"
    return live.encode()[: LONGEST_NAME - len(told.encode())].decode(errors="ignore") + told


def _mark(comment: str | None) -> Mark | None:
    try:
        return Mark.model_validate(json.loads(comment or "")[KEY])
    except (ValueError, KeyError, TypeError, ValidationError):
        return None


def _unmarked(each: Database, live: str) -> bool:
    """Left by a run that was killed before it could write the comment: until then nobody can ever have connected."""
    name = staged_name(live, each.name.rpartition("__restore_")[2])
    return each.name == name and each.comment is None and not each.connectable
