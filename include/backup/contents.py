"""What a database holds, as figures that two databases can be compared by: rows and a digest of each table.

It is counted by SQL and not read from what pg_dump wrote, so a dump that is empty although pg_dump ended well is found.
The server adds up one 64-bit hash a row: neither it nor we need more memory for a larger table, and the order of the
rows does not matter. The hash is of the row's text in the database's own encoding; both sides need the same encoding.
"""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]

from include.backup.manifest import Kind, TableContent
from include.progress import track

SLICE = 1_048_576  # bytes of a large object that the server holds at once
READ = 0x40000  # INV_READ
MOST_DIFFERENCES = 20
ANY = "cycles"  # a sequence that begins anew has no order in which a value could be too early or too late

# What a row's text depends on. row_security: better an error than rows that are not seen.
SETTINGS = {
    "extra_float_digits": "3",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "search_path": "",
    "row_security": "off",
    "statement_timeout": "0",
    "lock_timeout": "10min",  # for a table that somebody alters: a forgotten transaction must not hold us for ever
    "jit": "off",
}

# Of an extension only what it declares as data of its users: pg_dump leaves the rest to CREATE EXTENSION.
RELATIONS = """
    SELECT n.nspname, c.relname, c.relkind, coalesce(config.condition, ''), c.relispopulated,
           coalesce(q.seqcycle, false)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
    LEFT JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.deptype = 'e'
    LEFT JOIN LATERAL (
        SELECT x.extcondition[i] AS condition
        FROM pg_catalog.pg_extension x, pg_catalog.generate_subscripts(x.extconfig, 1) i
        WHERE x.oid = d.refobjid AND x.extconfig[i] = c.oid
    ) config ON true
    WHERE c.relkind IN ('r', 'S', 'm') AND c.relpersistence <> 't'
        AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
        AND (d.objid IS NULL OR config.condition IS NOT NULL)
    ORDER BY 1, 2
"""

# (t.*) and not t, which would be a column of that name where there is one.
QUERIES: dict[str, tuple[Kind, str]] = {
    "r": ("table", 'SELECT count(*), coalesce(sum(hashtextextended((t.*)::text COLLATE "C", 0)), 0) FROM ONLY {} t '),
    "m": ("materialised view", "SELECT count(*), '' FROM {} t "),
    "S": ("sequence", "SELECT 1, last_value || CASE WHEN is_called THEN ',called' ELSE ',new' END FROM {} t "),
}

# Each is opened only for its size and closed at once; an empty one counts as one empty slice.
LARGE_OBJECTS = """
    SELECT count(*) FILTER (WHERE start = 0),
           coalesce(sum(hashtextextended(
               (oid || ':' || start || ':' || encode(sha256(lo_get(oid, start, %(slice)s)), 'hex')) COLLATE "C", 0)), 0)
    FROM (
        SELECT oid, lo_lseek64(fd, 0, 2) AS size, lo_close(fd)
        FROM (SELECT oid, lo_open(oid, %(read)s) AS fd FROM pg_largeobject_metadata OFFSET 0) opened
        OFFSET 0
    ) sized
    CROSS JOIN LATERAL generate_series(0, greatest(size, 1) - 1, %(slice)s) start
"""


class Relation(NamedTuple):
    """A table, materialised view or sequence of the database."""

    schema: str
    name: str
    kind: str  # r, m, S as in pg_class
    condition: str  # which rows of an extension's table are its users', as SQL
    populated: bool
    cycles: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def hold(connection: Connection) -> list[TableContent]:
    """Before the dump, in the transaction of its snapshot: keep the tables as they are, and give the sequences' values.

    A snapshot does not hide what TRUNCATE, DROP TABLE and nextval() do meanwhile. Give the answer to `contents`.
    """
    prepare(connection)
    found = relations(connection)
    tables = [each.identifier for each in found if each.kind == "r"]
    with connection.cursor() as cursor:
        if tables:
            cursor.execute("SET LOCAL lock_timeout = '10min'")  # for a table that somebody alters, as pg_dump is given
            names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(table) for table in tables)
            cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
    return [_content(connection, each) for each in found if each.kind == "S"]


def contents(connection: Connection, before: Sequence[TableContent] = ()) -> list[TableContent]:
    """Every table, sequence and materialised view of the database, and its large objects as one.

    The connection is in a transaction, or begins one with this (no autocommit), and is only read. `before`: what `hold`
    gave; a sequence that moved since then may be restored as any value between the two.

    Raises psycopg2.Error; an insufficient privilege, or row security that hides rows, among them.
    """
    prepare(connection)
    earlier = {(each.schema_name, each.name): each.digest for each in before}
    found = [_content(connection, each) for each in track(relations(connection), "digest tables")]
    found = [
        each.model_copy(update={"digest": _span(earlier.get((each.schema_name, each.name), each.digest), each.digest)})
        if each.kind == "sequence"
        else each
        for each in found
    ]
    with connection.cursor() as cursor:
        cursor.execute(LARGE_OBJECTS, {"slice": SLICE, "read": READ})
        rows, digest = cursor.fetchone()
    objects = TableContent(schema_name="", name="large objects", kind="large objects", rows=rows, digest=str(digest))
    return [*found, objects]


def prepare(connection: Connection) -> None:
    """Make the text of rows independent of the server's, the database's and the role's settings, for a transaction."""
    if connection.autocommit:
        raise ValueError("contents are counted in one transaction: give a connection without autocommit")
    with connection.cursor() as cursor:
        for name, value in SETTINGS.items():
            cursor.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value)))


def relations(connection: Connection) -> list[Relation]:
    """What of the database's relations a dump holds the rows of."""
    with connection.cursor() as cursor:
        cursor.execute(RELATIONS)
        return [Relation(*row) for row in cursor.fetchall()]


def counts(connection: Connection) -> dict[str, int]:
    """Rows by table, `schema.table`."""
    prepare(connection)
    found = {}
    for each in relations(connection):
        if each.kind == "r":
            with connection.cursor() as cursor:
                cursor.execute(
                    sql.SQL("SELECT count(*) FROM ONLY {} t ").format(each.identifier) + sql.SQL(each.condition)
                )
                found[f"{each.schema}.{each.name}"] = cursor.fetchone()[0]
    return found


def differences(expected: Sequence[TableContent], found: Sequence[TableContent]) -> list[str]:
    """One line for each table that is not as expected; none when all are.

    The rows of a materialised view are no difference: a restore computes them anew.
    """
    wanted, there = _by_name(expected), _by_name(found)
    lines = [f"{_called(key)} is missing" for key in wanted if key not in there]
    lines += [f"{_called(key)} is there and was not expected" for key in there if key not in wanted]
    for key, content in wanted.items():
        if key in there and (said := _difference(content, there[key])):
            lines.append(f"{_called(key)}: {said}")
    return lines


def notes(expected: Sequence[TableContent], found: Sequence[TableContent]) -> list[str]:
    """What is no difference and still worth telling: materialised views that were computed anew to something else."""
    there = _by_name(found)
    return [
        f"{_called(key)}: {there[key].rows} rows after its refresh, {content.rows} when it was backed up"
        for key, content in _by_name(expected).items()
        if key in there and content.kind == "materialised view" and there[key].rows != content.rows
    ]


def told(lines: Sequence[str]) -> str:
    """The first of many differences, in one line."""
    more = [f"and {len(lines) - MOST_DIFFERENCES} more"] if len(lines) > MOST_DIFFERENCES else []
    return "; ".join([*lines[:MOST_DIFFERENCES], *more])


def _content(connection: Connection, relation: Relation) -> TableContent:
    kind, query = QUERIES[relation.kind]
    if relation.kind == "m" and not relation.populated:
        rows, digest = 0, ""
    else:
        with connection.cursor() as cursor:
            # Giving up the savepoint gives up the locks on the table's indices, of which there may be too many.
            counted = sql.SQL(query).format(relation.identifier) + sql.SQL(relation.condition)
            cursor.execute(sql.SQL("SAVEPOINT one_table; ") + counted)
            rows, digest = cursor.fetchone()
            cursor.execute("ROLLBACK TO SAVEPOINT one_table; RELEASE SAVEPOINT one_table")
    if relation.cycles:
        digest = ANY
    return TableContent(schema_name=relation.schema, name=relation.name, kind=kind, rows=rows, digest=str(digest))


def _span(first: str, last: str) -> str:
    return last if first == last else f"{first}..{last}"


def _by_name(tables: Sequence[TableContent]) -> dict[tuple[str, str, str], TableContent]:
    return {(table.schema_name, table.name, table.kind): table for table in tables}


def _called(key: tuple[str, str, str]) -> str:
    schema, name, kind = key
    return f"{kind} {schema}.{name}" if schema else "the large objects"


def _difference(expected: TableContent, found: TableContent) -> str:
    if expected.kind == "materialised view":
        return ""
    if expected.kind == "sequence":
        return "" if _within(expected.digest, found.digest) else f"is at {found.digest}, expected is {expected.digest}"
    if expected.rows != found.rows:
        return f"{found.rows} rows, expected are {expected.rows}"
    return "" if expected.digest == found.digest else f"{found.rows} rows as expected, but not the same"


def _within(span: str, value: str) -> bool:
    """Whether a sequence's value is what was seen, or lies between what was seen before and after the dump."""
    ends = span.split("..")
    if value in ends or ANY in (*ends, value):
        return True
    low, high = sorted(int(end.split(",")[0]) for end in (ends[0], ends[-1]))
    return low < high and low <= int(value.split(",")[0]) <= high
