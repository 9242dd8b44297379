"""What a database holds, counted on a real server: what changes the figures, and what must not."""

import json
import threading
import time
from contextlib import closing

import psycopg2
import pytest

from include.backup.connection import connect
from include.backup.contents import contents, counts, differences, hold
from tests.integration.backup.server import OWNER, READER

pytestmark = pytest.mark.timeout(60)

EVERYTHING = """
CREATE TABLE plain (id int PRIMARY KEY, t text, f float8, at timestamptz, b bytea, price money, span interval, x xml);
INSERT INTO plain
  SELECT n, 'text ' || n, n / 3.0, '2026-01-01'::timestamptz + n * interval '1 hour', sha256(n::text::bytea), n,
         n * interval '1 day 1 hour', xmlelement(name a, n)
  FROM generate_series(1, 500) n;
CREATE TABLE "t" (t int, "T ""quoted"" %s" text); INSERT INTO "t" VALUES (1, 'a'), (2, NULL);
CREATE SCHEMA "Sch ema"; CREATE TABLE "Sch ema"."ünïcode'" (a int); INSERT INTO "Sch ema"."ünïcode'" VALUES (1);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE computed (a int, twice int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO computed VALUES (1), (2);
CREATE TABLE years (y int, v int) PARTITION BY RANGE (y);
CREATE TABLE years_1 PARTITION OF years FOR VALUES FROM (1) TO (10);
CREATE TABLE years_2 PARTITION OF years FOR VALUES FROM (10) TO (20);
INSERT INTO years SELECT n, n FROM generate_series(1, 19) n;
CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
CREATE SEQUENCE counter; SELECT nextval('counter'); CREATE SEQUENCE fresh; CREATE SEQUENCE round MAXVALUE 3 CYCLE;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM plain;
CREATE MATERIALIZED VIEW empty AS SELECT * FROM plain WITH NO DATA;
CREATE VIEW seen AS SELECT * FROM plain;
"""
BYTES = "SELECT lo_from_bytea(%s, convert_to(repeat('x', 1048576) || 'end', 'UTF8'))"


@pytest.fixture
def shop(room):
    """A database with some of everything."""
    return room.create("shop", sql=EVERYTHING)


def figures(server, dbname, user=OWNER):
    """Contents by `schema.name`."""
    with closing(server.connect(dbname, user)) as connection:
        connection.autocommit = False
        return contents(connection)


def by_name(found):
    return {f"{content.schema_name}.{content.name}": content for content in found}


def test_every_kind_is_counted_by_itself(shop, server):
    found = by_name(figures(server, shop))
    rows = {name: (content.kind, content.rows) for name, content in found.items()}
    assert rows == {
        "public.plain": ("table", 500),
        "public.t": ("table", 2),
        "Sch ema.ünïcode'": ("table", 1),
        "public.nothing": ("table", 1),
        "public.computed": ("table", 2),
        "public.years_1": ("table", 9),
        "public.years_2": ("table", 10),
        "public.parent": ("table", 1),
        "public.child": ("table", 2),
        "public.counter": ("sequence", 1),
        "public.fresh": ("sequence", 1),
        "public.round": ("sequence", 1),
        "public.totals": ("materialised view", 1),
        "public.empty": ("materialised view", 0),
        ".large objects": ("large objects", 0),
    }
    assert found["public.counter"].digest == "1,called"
    assert found["public.fresh"].digest == "1,new"


def test_rows_in_another_order_are_the_same(shop, server):
    before = figures(server, shop)
    server.sql(shop, "CREATE TABLE again AS SELECT * FROM plain ORDER BY id DESC; TRUNCATE plain")
    server.sql(shop, "INSERT INTO plain SELECT * FROM again; DROP TABLE again")
    assert differences(before, figures(server, shop)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE plain SET t = t || ' ' WHERE id = 7", "public.plain"),
        ("UPDATE plain SET f = f + 1e-13 WHERE id = 7", "public.plain"),
        ("UPDATE plain SET t = NULL WHERE id = 7", "public.plain"),
        ("UPDATE plain SET t = (SELECT t FROM plain WHERE id = 8) WHERE id = 7", "public.plain"),
        ("DELETE FROM plain WHERE id = 7", "public.plain"),
        ("INSERT INTO plain SELECT 501", "public.plain"),
        ('UPDATE t SET "T ""quoted"" %s" = \'b\' WHERE t = 1', "public.t"),
        ("UPDATE years_2 SET v = 0 WHERE y = 12", "public.years_2"),
        ("UPDATE child SET a = 9 WHERE a = 3", "public.child"),
        ("UPDATE computed SET a = 3 WHERE a = 2", "public.computed"),
        ("SELECT nextval('counter')", "public.counter"),
        ("SELECT nextval('fresh')", "public.fresh"),
        ("INSERT INTO nothing DEFAULT VALUES", "public.nothing"),
        ("DROP TABLE child", "public.child"),
        ("CREATE TABLE more (a int)", "public.more"),
    ],
)
def test_one_change_is_found_where_it_is(shop, server, change, where):
    before = figures(server, shop)
    server.sql(shop, change, user=OWNER)
    told = differences(before, figures(server, shop))
    assert len(told) == 1
    assert where in told[0]


def test_two_values_that_change_places_are_found(shop, server):
    before = figures(server, shop)
    server.sql(shop, "UPDATE plain p SET t = o.t FROM plain o WHERE (p.id, o.id) IN ((7, 8), (8, 7))")
    assert "public.plain: 500 rows as expected, but not the same" in differences(before, figures(server, shop))[0]


@pytest.mark.parametrize("offset", [0, 1048575, 1048578])
def test_one_byte_of_a_large_object_is_found(shop, server, offset):
    server.sql(shop, BYTES, 4711)
    server.sql(shop, "SELECT lo_create(4712)")  # an empty one
    before = figures(server, shop, user="admin")
    assert by_name(before)[".large objects"].rows == 2
    server.sql(shop, "SELECT lo_put(4711, %s, 'y')", offset)
    assert differences(before, figures(server, shop, user="admin")) == [
        "the large objects: 2 rows as expected, but not the same"
    ]


def test_large_objects_are_told_apart_and_missing_ones_found(shop, server):
    server.sql(shop, BYTES, 4711)
    server.sql(shop, "SELECT lo_create(4712)")
    before = figures(server, shop, user="admin")
    server.sql(shop, "SELECT lo_unlink(4712)")
    assert differences(before, figures(server, shop, user="admin")) == ["the large objects: 1 rows, expected are 2"]
    server.sql(shop, "SELECT lo_create(4713)")
    assert differences(before, figures(server, shop, user="admin")) == [
        "the large objects: 2 rows as expected, but not the same"
    ]


def test_settings_of_the_database_and_of_the_session_change_nothing(shop, server):
    before = figures(server, shop)
    for name, value in {
        "DateStyle": "'SQL, DMY'",
        "IntervalStyle": "iso_8601",
        "TimeZone": "'Asia/Kathmandu'",
        "bytea_output": "escape",
        "extra_float_digits": "-10",
        "statement_timeout": "1",
    }.items():
        server.sql("postgres", f'ALTER DATABASE "{shop}" SET {name} = {value}')
    with closing(psycopg2.connect(**login(server, shop))) as connection:
        connection.set_session(readonly=True, isolation_level="REPEATABLE READ")
        assert differences(before, contents(connection)) == []
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute("SHOW bytea_output")
            assert cursor.fetchone() == ("escape",), "the caller's session is as it was"


def login(server, dbname):
    with closing(server.connect(dbname, OWNER)) as connection:
        return {**connection.get_dsn_parameters(), "password": connection.info.password}


def test_a_live_database_may_go_on_while_it_is_dumped(shop, server):
    """What a snapshot does not hide: sequences that move on, and TRUNCATE, which has to wait."""
    with closing(server.connect(shop, OWNER)) as connection:
        connection.autocommit = False
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        before = hold(connection)
        server.sql(shop, "SELECT nextval('counter') FROM generate_series(1, 5)")
        server.sql(shop, "SELECT nextval('round') FROM generate_series(1, 5)")
        server.sql(shop, "INSERT INTO plain SELECT 501")
        dumped = figures(server, shop)
        server.sql(shop, "SELECT nextval('counter') FROM generate_series(1, 5)")
        truncated = threading.Thread(target=server.sql, args=(shop, "TRUNCATE plain"))
        truncated.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE query = 'TRUNCATE plain' AND wait_event_type = 'Lock'"
        while truncated.is_alive() and not server.sql(shop, waits):
            time.sleep(0.02)
        found = contents(connection, before)
        assert truncated.is_alive()
        connection.rollback()
        truncated.join()
    assert by_name(found)["public.plain"].rows == 500
    assert by_name(found)["public.counter"].digest == "1,called..11,called"
    assert differences(found, dumped) == ["table public.plain: 501 rows, expected are 500"]
    later = [c.model_copy(update={"digest": "12,called"}) if c.name == "counter" else c for c in found]
    assert "sequence public.counter: is at 12,called" in differences(found, later)[0]


def test_rows_hidden_by_row_security_are_an_error(shop, server):
    server.sql(
        shop, "ALTER TABLE plain ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON plain USING (id < 10)", user=OWNER
    )
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
        figures(server, shop, user=READER)


def test_tables_of_an_extension_count_when_they_hold_data_of_users(room, server):
    """PostGIS declares such a table; without it, an extension that is put together by hand."""
    dbname = room.create("extended", sql="CREATE TABLE own (a int)")
    server.sql(dbname, "CREATE EXTENSION pg_trgm; CREATE TABLE internal (a int); CREATE TABLE config (a int)")
    server.sql(dbname, "INSERT INTO internal VALUES (1); INSERT INTO config VALUES (1), (100), (200)")
    server.sql(dbname, "ALTER EXTENSION pg_trgm ADD TABLE internal; ALTER EXTENSION pg_trgm ADD TABLE config")
    server.sql(dbname, "UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid] WHERE extname = 'pg_trgm'")
    server.sql(
        dbname, "UPDATE pg_extension SET extcondition = ARRAY['WHERE a >= 100 AND a % 2 = 0'] WHERE extname = 'pg_trgm'"
    )
    found = by_name(figures(server, dbname, user="admin"))
    assert set(found) == {"public.own", "public.config", ".large objects"}
    assert found["public.config"].rows == 2
    with closing(server.connect(dbname)) as connection:
        connection.autocommit = False
        assert counts(connection) == {"public.own": 0, "public.config": 2}


def test_a_thousand_tables_with_their_indices_need_few_locks(room, server):
    tables = "CREATE TABLE t%s (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t%s VALUES (1, 'a')"
    dbname = room.create("many", sql="".join((tables % (n, n)) + ";" for n in range(1000)))
    with closing(server.connect(dbname, OWNER)) as connection:
        connection.autocommit = False
        found = contents(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'")
            assert cursor.fetchone()[0] < 50
    assert len(found) == 1001
    assert sum(content.rows for content in found) == 1000


def test_other_encodings_are_counted_in_their_own_bytes(room, server):
    sql = "CREATE TABLE \"größe\" (a text); INSERT INTO \"größe\" VALUES ('ÄÖÜ'), ('plain')"
    dbname = room.create("latin", sql=sql, more="ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with closing(connect("latin")) as connection:
        assert by_name(contents(connection))["public.größe"].rows == 2
    same = room.create("latin2", sql=sql, more="ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert differences(figures(server, dbname), figures(server, same)) == []


def test_a_connection_that_commits_each_statement_is_a_mistake(shop, server):
    with closing(server.connect(shop)) as connection, pytest.raises(ValueError, match="autocommit"):
        contents(connection)


def test_the_figures_fit_into_a_manifest(shop, server):
    text = json.dumps([content.model_dump() for content in figures(server, shop)], allow_nan=False)
    assert "Infinity" not in text
