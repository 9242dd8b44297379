"""A backup counts when it was restored and compared: which ones are, which are not, and what is left behind."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import include.backup.dump
import include.backup.verify
from include.backup.manifest import Verified
from include.backup.scratch_server import OPTIONS, PREFIX, remove_leftovers, scratch_server
from include.command import BadInput, Refused
from tests.integration.backup.server import OWNER, READER

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A short TMPDIR of the test's own, where nothing may be left."""
    folder = Path(tempfile.mkdtemp(prefix="tmp-", dir="/tmp"))
    folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    remove_leftovers(folder)
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


def file_of(room, stem, suffix=".dump.gz", service="shop"):
    return Path(room.uri) / service / f"{stem}{suffix}"


def edit(room, backup, service="shop", **fields):
    """Change the manifest."""
    path = file_of(room, backup, ".json", service)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def put(room, stem, data):
    """Another dump in the place of the backup's, with a manifest that knows its size and checksum."""
    file_of(room, stem).write_bytes(data)
    edit(room, stem, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def dump(service="shop"):
    """A backup, made in this process. Its stem."""
    return include.backup.dump.main(include.backup.dump.Args(database=service))["stem"]


def verify(backup="newest", service="shop"):
    """The step's answer, from this process."""
    return include.backup.verify.main(include.backup.verify.Args(database=service, backup=backup))


def refused(room, stem):
    """Verification says no, and why; nothing of the backup is gone, and it does not count."""
    with pytest.raises(Refused) as refusal:
        verify(stem)
    assert stem in str(refusal.value)
    assert "python -m include.backup.dump --database shop" in str(refusal.value)
    assert file_of(room, stem, ".json").exists()
    assert not file_of(room, stem, ".verified.json").exists()
    return str(refusal.value)


def test_a_good_backup_is_marked_and_nothing_is_left(room, temporary):
    room.create()
    stem = dump()
    done = room.step("verify", "--database", "shop", "--backup", stem)
    assert done.code == 0
    assert (done.answer["stem"], done.answer["compared"], done.answer["notes"]) == (stem, 4, [])
    backup = room.backups()[-1]
    assert backup.good
    assert backup.verified.sha256 == hashlib.sha256(file_of(room, stem).read_bytes()).hexdigest()
    assert room.step("verify", "--database", "shop").answer["stem"] == stem, "once more is no harm"


def test_a_sequence_that_moves_meanwhile(room, monkeypatch):
    """A snapshot does not hide it: the dump may have any value between that of its begin and that of the count."""
    dbname = room.create(
        sql="CREATE SEQUENCE numbers; SELECT nextval('numbers'); CREATE TABLE t (a int); INSERT INTO t VALUES (1)"
    )
    write = include.backup.dump._write

    def busy(*given):
        room.server.sql(dbname, "SELECT nextval('numbers')")
        written = write(*given)
        room.server.sql(dbname, "SELECT nextval('numbers')")
        return written

    monkeypatch.setattr(include.backup.dump, "_write", busy)
    assert verify(dump())["notes"] == []


EVERYTHING = '''
CREATE TABLE "a 'quoted' ""table""" (id int GENERATED ALWAYS AS IDENTITY, "ä %s" text);
INSERT INTO "a 'quoted' ""table""" ("ä %s") VALUES ('\u00fc'), (E'tab\\t, \\\\ and \\n'), (''), (NULL);
CREATE TABLE computed (a int, twice int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO computed VALUES (1), (2);
CREATE SEQUENCE counter INCREMENT -2; SELECT nextval('counter'), nextval('counter'); CREATE SEQUENCE fresh START 42;
CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE typed (m mood, p positive, a int[], j jsonb, f float4, g float8, b bytea, r int4range, x xml);
INSERT INTO typed
  VALUES ('sad', 1, '{{1,2},{3,NULL}}', '{"a": [1, null]}', 'NaN', '-Infinity', '\\x00ff', '[1,5)', '<a/>');
INSERT INTO typed (f, g) SELECT random(), random() FROM generate_series(1, 100);
CREATE TABLE years (y int, v text) PARTITION BY RANGE (y);
CREATE TABLE years_1 PARTITION OF years FOR VALUES FROM (1) TO (10);
CREATE TABLE years_rest PARTITION OF years DEFAULT; INSERT INTO years SELECT n, n FROM generate_series(1, 19) n;
CREATE VIEW seen AS SELECT * FROM typed; CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM typed;
CREATE MATERIALIZED VIEW later AS SELECT * FROM typed WITH NO DATA;
CREATE FUNCTION plus(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1'; CREATE INDEX ON computed (plus(a));
CREATE TABLE guarded (a int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; INSERT INTO guarded VALUES (1);
CREATE POLICY few ON guarded USING (a < 0);
SELECT lo_from_bytea(4711, convert_to(repeat('x', 3000000), 'UTF8')), lo_create(4712);
'''


def test_everything_that_a_database_can_hold_survives(room, server):
    dbname = room.create("shop", sql=EVERYTHING)
    server.sql(dbname, "CREATE EXTENSION pg_trgm")
    server.sql(dbname, f'GRANT SELECT ON LARGE OBJECT 4711, 4712 TO "{READER}"', user=OWNER)
    server.sql("postgres", f'ALTER ROLE "{READER}" BYPASSRLS')
    try:
        dump()
        verify()
    finally:
        server.sql("postgres", f'ALTER ROLE "{READER}" NOBYPASSRLS')
    rows = {f"{c.schema_name}.{c.name}": c.rows for c in room.backups()[-1].manifest.contents}
    assert (rows[".large objects"], rows["public.guarded"], rows["public.typed"]) == (2, 1, 101)


@pytest.mark.parametrize(("encoding", "text"), [("LATIN1", "ÄÖÜß"), ("EUC_JP", "日本語"), ("SQL_ASCII", "ÄÖÜ")])
def test_other_encodings_survive(room, encoding, text):
    more = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    sql = f"CREATE TABLE \"{text}\" (a text); INSERT INTO \"{text}\" VALUES ('{text}'), ('plain')"
    room.create("shop", sql=sql, more=more)
    dump()
    verify()
    manifest = room.backups()[-1].manifest
    assert manifest.encoding == encoding
    assert (f"{text}", 2) in {(content.name, content.rows) for content in manifest.contents}


def test_a_thousand_tables_survive(room):
    table = "CREATE TABLE t%s (id int PRIMARY KEY, a text UNIQUE); INSERT INTO t%s VALUES (1, 'a');"
    room.create("shop", sql="".join(table % (n, n) for n in range(1000)))
    dump()
    assert verify()["compared"] == 1001


@pytest.mark.parametrize("name", ['it\'s a "shop" %s', "../../shop", ".."])
def test_a_strange_name_is_a_name(room, name):
    dbname = "real 'name' \"of\" it\\" if name.startswith("it") else None
    room.create(name, dbname)
    dump(name)
    verify(service=name)
    assert room.backups(name)[-1].good


def test_a_file_that_is_cut_off(room):
    room.create()
    stem = dump()
    path = file_of(room, stem)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    assert f"its manifest says {size:,}: it is cut off" in refused(room, stem)


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_one_flipped_byte(room, where):
    room.create()
    stem = dump()
    path = file_of(room, stem)
    data = bytearray(path.read_bytes())
    data[{"start": 0, "middle": len(data) // 2, "end": -1}[where]] ^= 1
    path.write_bytes(data)
    assert "has the checksum" in refused(room, stem)


def test_a_file_that_is_gone(room):
    room.create()
    stem = dump()
    file_of(room, stem).unlink()
    assert "is missing" in refused(room, stem)


def test_the_step_says_no_with_exit_code_3(room):
    room.create()
    stem = dump()
    os.truncate(file_of(room, stem), 100)
    done = room.step("verify", "--database", "shop")
    assert done.code == 3
    assert "is not verified" in done.error
    assert (done.answer["database"], done.answer["stem"]) == ("shop", stem)


def test_damage_after_the_verification_takes_the_mark_away(room):
    room.create()
    first, second = dump(), dump()
    for backup in room.backups():
        stem, sha256 = backup.manifest.stem, backup.manifest.sha256
        mark = Verified(stem=stem, sha256=sha256, at=1, seconds=1, server_version="15", compared=4)
        file_of(room, stem, ".verified.json").write_text(mark.model_dump_json())
    assert [backup.good for backup in room.backups()] == [True, True]
    data = bytearray(file_of(room, second).read_bytes())
    data[100] ^= 1
    file_of(room, second).write_bytes(data)
    refused(room, second)
    assert [(backup.manifest.stem, backup.good) for backup in room.backups()] == [(first, True), (second, False)]


def test_an_empty_dump_and_a_dump_of_another_database(room, server):
    """Both are dumps that restore without an error, with manifests that know their checksums."""
    dbname = room.create()
    room.create("other", sql="CREATE TABLE customers (id int); CREATE TABLE foreign_one (a int)")
    room.create("nothing", sql="")
    stem = dump()
    for service, said in (("nothing", "public.customers is missing"), ("other", "public.foreign_one is there and")):
        of_another = dump(service)
        put(room, stem, file_of(room, of_another, service=service).read_bytes())
        told = refused(room, stem)
        assert said in told
        assert "table public.orders is missing" in told
    assert server.sql(dbname, "SELECT count(*) FROM customers") == [(2000,)]


def test_a_dump_without_some_rows(room, server):
    """As it would be if pg_dump had read another snapshot."""
    dbname = room.create()
    stem = dump()
    server.sql(dbname, "DELETE FROM orders WHERE id = 7; UPDATE customers SET name = name || '!' WHERE id = 9")
    put(room, stem, file_of(room, dump()).read_bytes())
    told = refused(room, stem)
    assert "in 2 places" in told
    assert "table public.orders: 4999 rows, expected are 5000" in told
    assert "table public.customers: 2000 rows as expected, but not the same" in told


@pytest.mark.parametrize("cut", [0.2, 0.9])
def test_a_dump_that_ends_in_the_middle(room, cut):
    """What a pg_dump that was killed would leave, if nobody had looked at how it ended."""
    room.create()
    stem = dump()
    raw = gzip.decompress(file_of(room, stem).read_bytes())
    put(room, stem, gzip.compress(raw[: int(len(raw) * cut)], 1))
    assert "cannot be restored" in refused(room, stem)
    half = gzip.compress(raw, 1)
    put(room, stem, half[: int(len(half) * cut)])
    assert "it ends in the middle" in refused(room, stem)


def test_the_manifest_of_another_backup_counts_for_nothing(room, server):
    dbname = room.create()
    first = dump()
    server.sql(dbname, "DELETE FROM orders WHERE id > 100")
    second = dump()
    shutil.copy(file_of(room, first, ".json"), file_of(room, second, ".json"))
    done = room.step("verify", "--database", "shop", "--backup", second)
    assert done.code == 2
    assert f"is the manifest of {first}" in done.log
    edit(room, second, stem=second, number=2, file=f"{second}.dump.gz")
    assert "its manifest says" in refused(room, second)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"server_version_num": 990100, "server_version": "99.1"}, "postgresql-99"),
        ({"extensions": {"plpgsql": "1.0", "postgis": "3.3"}}, "needs the extensions postgis"),
        ({"collate": "xx_XX.UTF-8", "ctype": "xx_XX.UTF-8"}, "locale xx_XX.UTF-8"),
    ],
)
def test_what_this_machine_lacks_is_named_and_the_backup_is_not_blamed(room, fields, said):
    room.create()
    stem = dump()
    edit(room, stem, **fields)
    with pytest.raises(BadInput, match="install") as refusal:
        verify(stem)
    assert said in str(refusal.value)


def test_the_roles_of_the_backup_need_not_exist_here(room, server):
    dbname = room.create()
    server.sql("postgres", "CREATE ROLE \"only 'there'\"")
    try:
        server.sql(dbname, "GRANT SELECT ON customers TO \"only 'there'\"; CREATE TABLE its (a int)")
        server.sql(dbname, "ALTER TABLE its OWNER TO \"only 'there'\"")
        dump()
        verify()
    finally:
        server.sql(dbname, "DROP OWNED BY \"only 'there'\"")
        server.sql("postgres", "DROP ROLE \"only 'there'\"")


def test_no_room_for_the_scratch_database_may_pass(room):
    room.create()
    stem = dump()
    edit(room, stem, database_size=2**60)
    done = room.step("verify", "--database", "shop", "--backup", stem)
    assert done.code == 1
    assert "make room, or set TMPDIR" in done.error


def test_pg_restore_that_is_killed_may_be_tried_again(room, fake_program, monkeypatch):
    room.create()
    dump()
    monkeypatch.setenv("PATH", fake_program("pg_restore", "kill -9 $$"))
    with pytest.raises(OSError, match="pg_restore ended with -9"):
        verify()
    assert not room.backups()[-1].verified


def servers_in(folder):
    """The servers that run in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "name"]):
        words = process.info["cmdline"] or []
        if process.info["name"] == "postgres" and any(word.startswith(f"{folder}/") for word in words):
            found.append(process)
    return found


def test_what_a_killed_run_left_is_ended_and_removed_by_the_next(room, temporary):
    room.create()
    dump()
    killed = room.start("verify", "--database", "shop")
    while not servers_in(temporary):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 1
    assert room.step("verify", "--database", "shop").code == 0
    assert servers_in(temporary) == []
    assert not list(temporary.iterdir())


def test_two_scratch_servers_at_once_leave_each_other_alone(temporary):
    with scratch_server(15) as one, scratch_server(15) as other:
        assert one.folder != other.folder
        for each in (one, other):
            with closing(each.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("SHOW unix_socket_directories")
                assert cursor.fetchone() == (str(each.folder),)
        assert remove_leftovers(temporary) == []
    assert not list(temporary.iterdir())


def test_nobody_else_reaches_the_scratch_server(temporary):
    with scratch_server(15) as server:
        assert server.folder.stat().st_mode & 0o077 == 0
        sockets = [c for p in servers_in(temporary) for c in p.net_connections("inet")]
        assert sockets == []
        if os.geteuid() == 0:
            nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            tried = subprocess.run([*nobody, "psql", server.conninfo(), "-c", ""], capture_output=True, cwd="/")
            assert tried.returncode == 2


def test_a_folder_too_deep_for_a_socket_is_refused(temporary, monkeypatch):
    deep = temporary / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(BadInput, match="set a shorter one"), scratch_server(15):
        raise AssertionError("no server can be reached there")
    assert not list(deep.iterdir())
    deep.rmdir()


def test_a_server_that_dies_is_told_with_its_last_words(temporary, monkeypatch):
    monkeypatch.setitem(OPTIONS, "fsync", "perhaps")
    with pytest.raises(OSError, match="fsync"), scratch_server(15):
        raise AssertionError("it cannot start")
