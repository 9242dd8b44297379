"""An empty database like the live one in what no dump holds: rights on it, settings, tablespace, locale."""

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.errors import Error  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from psycopg2.extensions import cursor as Cursor

from include.backup.beside import (
    Database,
    Mark,
    comment_on,
)
from include.backup.connection import rows
from include.backup.manifest import Manifest
from include.backup.verify import create_database


def create_beside(
    connection: Connection, live: Database | None, name: str, owner: str, manifest: Manifest, mark: Mark
) -> list[str]:
    """The empty database, like the live one in what no dump holds. Nobody connects to it before it has its mark."""
    more = sql.SQL("ALLOW_CONNECTIONS false OWNER {} ").format(sql.Identifier(owner))
    create_database(connection, name, manifest, more + _form_of(connection, live))
    with connection.cursor() as cursor:
        cursor.execute(comment_on(name, mark))
        notes = _copy_rights_and_settings(connection, live, name) if live else []
        cursor.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    return notes


def _form_of(connection: Connection, live: Database | None) -> sql.Composable:
    """Tablespace, number of connections and, where it is ICU's, the locale of the live database."""
    if live is None:
        return sql.SQL("")
    query = """
        SELECT nullif(spcname, 'pg_default'), datconnlimit, to_jsonb(d)->>'datlocprovider',
               coalesce(to_jsonb(d)->>'daticulocale', to_jsonb(d)->>'datlocale')
        FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = %s"""
    tablespace, connections, provider, locale = rows(connection, query, live.name)[0]
    form = sql.SQL("CONNECTION LIMIT {} ").format(sql.Literal(connections))
    if tablespace:
        form += sql.SQL("TABLESPACE {} ").format(sql.Identifier(tablespace))
    if provider == "i":
        form += sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {} ").format(sql.Literal(locale))
    return form


def _copy_rights_and_settings(connection: Connection, live: Database, name: str) -> list[str]:
    """What ALTER DATABASE SET and GRANT ON DATABASE have set. What only a superuser may set is told, not copied."""
    statements = [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))]
    granted = rows(
        connection,
        "SELECT CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable "
        "FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = %s",
        live.name,
    )
    for role, right, grantable in granted:
        to = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(right), sql.Identifier(name), to)
        statements.append(grant + sql.SQL(" WITH GRANT OPTION" if grantable and role != live.owner else ""))
    set_for = rows(
        connection,
        "SELECT CASE setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(setrole) END, unnest(setconfig) "
        "FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s",
        live.name,
    )
    notes = []
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        for role, setting in set_for:
            try:
                _set(cursor, role, name, *setting.split("=", 1))
            except Error as error:
                notes.append(f"{setting} of {role or 'the database'} is not copied: {str(error).strip()}")
    return notes


def _set(cursor: Cursor, role: str | None, name: str, setting: str, value: str) -> None:
    """FROM CURRENT, as only the server knows which settings are lists. RESET: this session must not keep it."""
    whose = sql.SQL("ROLE {} IN ").format(sql.Identifier(role)) if role else sql.SQL("")
    try:
        cursor.execute("SELECT set_config(%s, %s, false)", (setting, value))
        alter = sql.SQL("ALTER {}DATABASE {} SET {} FROM CURRENT")
        cursor.execute(alter.format(whose, sql.Identifier(name), sql.Identifier(*setting.split("."))))
    finally:
        cursor.execute(sql.SQL("RESET {}").format(sql.Identifier(*setting.split("."))))
