"""Connections to databases by their names: sections of the file that PGSERVICEFILE names.

`service=mlflow` is all that is ever in an argument or a message; libpq reads the password from the file.
"""

import os
import re
from typing import Any

import psycopg2  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from psycopg2.extensions import make_dsn

from include.command import BadInput

CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 60  # while pg_dump works for hours, nothing else goes over our connection

# What the server says to whom no retry helps, and what does.
_WRONG = {
    r"definition of service .* not found": "add the section [{service}] to {file}",
    r"service file .* not found": "set PGSERVICEFILE to the file that describes the databases",
    r"syntax error in service file|line .* too long in service file": "correct {file}",
    r"nested service specifications": "correct {file}",
    r"password authentication failed": "correct user= or password= of [{service}] in {file}",
    r"no password supplied": "add password= to [{service}] in {file}",
    r"no pg_hba.conf entry": "let pg_hba.conf of the server accept this user, or correct [{service}] in {file}",
    r"role \".*\" (does not exist|is not permitted to log in)": "create the role on the server with LOGIN, "
    "or correct user= of [{service}] in {file}",
    r"database \".*\" does not exist": "create the database, or correct dbname= of [{service}] in {file}",
    r"permission denied for database": "GRANT CONNECT ON DATABASE … TO the role of [{service}]",
    r"could not translate host name": "correct host= of [{service}] in {file}",
}


def conninfo(service: str, **more: object) -> str:
    """What libpq is told about the service; `more` goes before what the file says."""
    return str(make_dsn(service=service, **more))


def connect(service: str, **more: object) -> Connection:
    """A connection, in UTF-8, with no time limits of the server's.

    `more` goes before what the file says (`dbname="postgres"`). Raises BadInput when file, section, role, password or
    database are wrong, ConnectionError when the server is away.
    """
    asked = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": KEEPALIVE_SECONDS,
        "application_name": f"mlops-backup {os.getpid()}",
        **more,
    }
    try:
        connection = psycopg2.connect(conninfo(service, **asked))
    except psycopg2.OperationalError as error:
        raise _explained(service, str(error).strip()) from None
    connection.set_client_encoding("UTF8")
    with connection.cursor() as cursor:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute(f"SET {setting} = 0")
        # An error where a policy would hide rows, as pg_dump does it: a backup of some of the rows is none.
        cursor.execute("SET row_security = off")
    connection.commit()
    return connection


def rows(connection: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of the query's answer."""
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def one(connection: Connection, query: str, *values: object) -> Any:
    """The one value of the query's answer."""
    return rows(connection, query, *values)[0][0]


def _explained(service: str, said: str) -> BadInput | ConnectionError:
    file = os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf (PGSERVICEFILE is not set)"
    for pattern, fix in _WRONG.items():
        if re.search(pattern, said):
            return BadInput(f"database {service!r}: {said}; {fix.format(service=service, file=file)}")
    return ConnectionError(f"database {service!r} cannot be reached: {said}; start its server, or correct {file}")
