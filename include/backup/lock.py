"""One backup at a time of a database: a lock that its server holds for as long as we are connected."""

import contextlib
import zlib
from collections.abc import Iterator

from include.backup.connection import Connection, one, rows

CLASS = 0x6D6C6261  # ours; who else takes advisory locks in that database takes them of another class


class UnderWay(Exception):
    """Another one holds the lock; a retry helps when it has ended."""


@contextlib.contextmanager
def only_backup(connection: Connection, database: str) -> Iterator[None]:
    """Hold the lock of the database while the block runs. Raises UnderWay, with who holds it.

    It ends with the connection too, so one who was killed leaves none.
    """
    number = zlib.crc32(database.encode()) - 2**31
    if not one(connection, "SELECT pg_try_advisory_lock(%s, %s)", CLASS, number):
        holder = rows(
            connection,
            "SELECT l.pid, coalesce(a.application_name, '?'), coalesce(host(a.client_addr), 'the server itself')"
            " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.classid::bigint = %s"
            " AND l.objid::bigint = %s"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            CLASS,
            number % 2**32,
        )
        who = "pid {} of the server, {} from {}".format(*holder[0]) if holder else "it has ended meanwhile"
        raise UnderWay(f"another backup of {database!r} is under way ({who}): retry when it has ended")
    connection.commit()
    yield
    with contextlib.suppress(Exception):  # a lost connection has lost its lock
        connection.rollback()
        one(connection, "SELECT pg_advisory_unlock(%s, %s)", CLASS, number)
        connection.commit()
