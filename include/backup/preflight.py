"""Step: can this database be backed up? `python -m include.backup.preflight --database mlflow`

Looks at what would fail hours later or, worse, be missing from the backup: the file of the services and its password,
the tools' version, what the role may read, and room for twice the last backup.
"""

import logging
from contextlib import closing
from typing import Any

from include.backup.catalogue import backups
from include.backup.connection import Connection, connect, one, rows
from include.backup.manifest import PROBE, folder_of
from include.backup.programs import program
from include.backup.store import Store, store
from include.command import BadInput, Refused, StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

TOOLS = ("pg_dump", "pg_restore", "initdb", "postgres")  # to dump, and to prove it
SHOWN = 5
GIB = 2**30


class Args(StepArgs):
    """Which database."""

    database: str


def main(args: Args) -> dict[str, Any]:
    """Answer: the server's version and size, bytes free (none: no limit) and needed."""
    kept = store(settings().backup_uri)
    with closing(connect(args.database)) as connection:
        version_num = int(one(connection, "SHOW server_version_num"))
        for tool in TOOLS:
            program(tool, at_least=version_num // 10_000)
        check_role(connection, args.database)
        answer = {
            "database": args.database,
            "server_version": one(connection, "SHOW server_version"),
            "database_size": int(one(connection, "SELECT pg_database_size(current_database())")),
        }
    check_writable(kept, args.database)
    earlier = backups(kept, args.database)
    # Compressed, the first one is smaller than the database, as a rule by far.
    needed = 2 * earlier[-1].manifest.size if earlier else answer["database_size"]
    answer |= {"free": kept.free(), "needed": needed}
    if answer["free"] is not None and answer["free"] < needed:
        raise Refused(
            f"{kept.uri} has {answer['free'] / GIB:.2f} GiB free, the backup of {args.database!r} needs "
            f"{needed / GIB:.2f} GiB; enlarge the volume, lower MLOPS_BACKUP_DAYS and MLOPS_BACKUP_LEAST and run "
            f"include.backup.rotate, or set MLOPS_BACKUP_URI to another place",
            answer,
        )
    return answer


def check_writable(kept: Store, database: str) -> None:
    """Raises BadInput when nothing can be written where the backups are to be."""
    name = f"{folder_of(database)}/{PROBE}"
    try:
        kept.write_text(name, "may this be written?")
        kept.delete(name)
    except (PermissionError, NotADirectoryError) as error:
        raise BadInput(
            f"{kept.uri} cannot be written ({error}); let this user write there, or correct MLOPS_BACKUP_URI"
        ) from error


def check_role(connection: Connection, database: str) -> None:
    """Raises BadInput, with the commands that mend it, when the role cannot read everything."""
    role, superuser = rows(
        connection, "SELECT quote_ident(rolname), rolsuper FROM pg_roles WHERE rolname = current_user"
    )[0]
    if superuser:
        log.warning("%s of %r is a superuser; pg_read_all_data is enough for a backup", role, database)
    problems = [
        f"{_some(found)}: {fix.format(role=role, ids=', '.join(map(str, found)))}"
        for query, fix in _CHECKS
        if (found := [name for (name,) in rows(connection, query)])
    ]
    connection.rollback()
    if problems:
        raise BadInput(f"the role {role} cannot read all of {database!r}. " + ". ".join(problems))


def _some(names: list[object]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


_CHECKS = (
    (
        """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1""",
        "it may not SELECT; run as a superuser: GRANT pg_read_all_data TO {role}",
    ),
    (
        "SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity AND row_security_active(oid) ORDER BY 1",
        "row security hides rows; run as a superuser: ALTER ROLE {role} BYPASSRLS",
    ),
    (
        """SELECT oid FROM pg_largeobject_metadata m WHERE NOT (
            pg_has_role(m.lomowner, 'USAGE') OR current_setting('lo_compat_privileges')::boolean OR EXISTS (
                SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                AND CASE WHEN a.grantee = 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END)) ORDER BY 1""",
        "large objects that it may not read, which pg_read_all_data does not include; run as their owner: "
        "GRANT SELECT ON LARGE OBJECT {ids} TO {role}",
    ),
)


if __name__ == "__main__":
    run(main)
