"""Backups of a real server, and what is left when one goes wrong: nothing that counts, and the last good one."""

import gzip
import json
import os
import re
import subprocess
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import pytest

from include.backup import dump, lock
from include.backup.catalogue import choose
from include.backup.connection import connect
from include.backup.contents import contents, differences
from include.backup.manifest import Manifest
from include.backup.programs import program
from include.backup.store import store
from include.command import BadInput
from tests.integration.backup.conftest import Room
from tests.integration.backup.kept import ended_at, mark, still_good
from tests.integration.backup.server import PASSWORD, RESTORER
from tests.integration.backup.small_disk import small_disk
from tests.integration.serving.conftest import wait_for

pytestmark = pytest.mark.timeout(180)

EVERYTHING = """
CREATE SCHEMA "an odd schema";
CREATE TABLE "an odd schema"."Ünï ""quoted"" table"
  ("näme" text, made int, twice int GENERATED ALWAYS AS (made * 2) STORED);
INSERT INTO "an odd schema"."Ünï ""quoted"" table" (näme, made) SELECT 'grüße ' || n, n FROM generate_series(1, 300) n;
CREATE TABLE by_day (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE by_day_1 PARTITION OF by_day FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE by_day_2 PARTITION OF by_day FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO by_day SELECT '2026-01-01'::date + n, n FROM generate_series(0, 50) n;
CREATE SEQUENCE tickets START 1000 INCREMENT 7;
SELECT nextval('tickets') FROM generate_series(1, 5);
CREATE TABLE bytes (id uuid DEFAULT gen_random_uuid(), b bytea, j jsonb, f float8, a int[], i interval);
INSERT INTO bytes (b, j, f, a, i) SELECT decode(md5(n::text), 'hex'), '{"a": [1, null]}', 1 / n::float8,
  ARRAY[n, NULL], n * '1 day'::interval
  FROM generate_series(1, 100) n;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM by_day;
CREATE VIEW seen AS SELECT * FROM by_day;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT lo_from_bytea(0, decode(repeat('00ff10', 900000), 'hex'));
SELECT lo_from_bytea(0, '');
"""


def restore(room: Room, backup: Manifest, dbname: str) -> None:
    """As anybody would on any machine: gunzip and pg_restore."""
    dumped = gzip.decompress((Path(room.uri) / "shop" / backup.file).read_bytes())
    target = f"host=127.0.0.1 port={room.server.port} user=admin dbname={dbname}"
    subprocess.run([program("pg_restore", 15), "--exit-on-error", "-d", target], input=dumped, check=True,
                   env=os.environ | {"PGPASSWORD": PASSWORD})  # fmt: skip


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_everything_comes_back(room, encoding):
    more = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    dbname = room.create(sql=EVERYTHING, more=more)
    room.server.sql(dbname, "DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP "
                    "EXECUTE 'GRANT SELECT ON LARGE OBJECT ' || o || ' TO backup'; END LOOP; END $$")  # fmt: skip
    done = room.step("dump", "--database", "shop")
    assert done.code == 0
    backup = choose(store(room.uri), "shop", "newest").manifest
    subprocess.run(["gzip", "-t", Path(room.uri) / "shop" / backup.file], check=True)
    again = room.create("again", sql="", more=more)
    restore(room, backup, again)
    with closing(connect("again", user="admin", password=PASSWORD)) as connection:
        assert differences(backup.contents, contents(connection)) == []
        room.server.sql(again, "UPDATE bytes SET f = f + 1e-9 WHERE a[1] = 50")
        assert len(differences(backup.contents, contents(connection))) == 1
    assert (backup.dbname, backup.encoding, backup.collate) == (dbname, encoding, "C")
    assert {"owner of it", "backup"} <= set(backup.roles)
    assert "admin" not in backup.roles
    assert backup.owner == "owner of it"
    assert done.answer == {
        "database": "shop", "stem": backup.stem, "size": backup.size, "raw_size": backup.raw_size,
        "seconds": backup.seconds, "rows": 300 + 51 + 100, "tables": 4,
    }  # fmt: skip
    assert room.files() == [f"{backup.stem}.dump.gz", f"{backup.stem}.json"]


def test_a_thousand_tables(room):
    room.create(sql="DO $$ BEGIN FOR n IN 1..1000 LOOP "
                "EXECUTE format('CREATE TABLE customers%s AS SELECT %s AS n', n, n); END LOOP; END $$")  # fmt: skip
    done = room.step("dump", "--database", "shop")
    assert (done.code, done.answer["tables"], done.answer["rows"]) == (0, 1000, 1000)


def test_the_other_codec(room):
    room.create()
    stem = room.dump(MLOPS_BACKUP_CODEC="zstd")
    path = Path(room.uri) / "shop" / f"{stem}.dump.zst"
    raw = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
    assert raw.startswith(b"PGDMP")
    assert room.backups()[0].manifest.codec == "zstd"
    assert room.step("dump", "--database", "shop", MLOPS_BACKUP_CODEC="rar").code == 2


@pytest.mark.parametrize("name", ["a b'c\"d", "../../x", "; rm -rf $HOME", "ünï=code #1"])
def test_any_name(room, name):
    dbname = f"{name} {os.getpid()}"
    room.create(name, dbname)
    room.dump(name)
    found = choose(store(room.uri), name, "1").manifest
    assert (found.database, found.dbname) == (name, dbname)
    assert [unquote(path.name) for path in Path(room.uri).iterdir()] == [name]
    assert {path.name for path in room.folder.iterdir() if path.suffix not in {".json", ".conf"}} == {"backups"}


def test_rows_that_come_while_it_runs_are_in_neither(room, fake_program):
    """The digest is of the snapshot that pg_dump reads, not of a later moment."""
    dbname = room.create()
    path = fake_program("pg_dump", f'touch {room.folder}/begun; while [ ! -e {room.folder}/go ]; do sleep 0.05; done\n'
                        f'exec {program("pg_dump", 15)} "$@"')  # fmt: skip
    process = room.start("dump", "--database", "shop", PATH=path)
    wait_for((room.folder / "begun").exists, "pg_dump", 60)
    room.server.sql(dbname, "INSERT INTO customers SELECT n, 'late' FROM generate_series(10001, 10100) n")
    room.server.sql(dbname, "CREATE TABLE late AS SELECT 1")
    (room.folder / "go").touch()
    assert process.wait(60) == 0, process.communicate()[1]
    backup = room.backups()[0].manifest
    assert {content.name: content.rows for content in backup.contents if content.kind == "table"} == {
        "customers": 2000, "orders": 5000,
    }  # fmt: skip
    again = room.create("again", sql="")
    restore(room, backup, again)
    with closing(connect("again", user="admin", password=PASSWORD)) as connection:
        assert differences(backup.contents, contents(connection)) == []


def test_the_password_is_nowhere(room, fake_program):
    """Not in what the step says (room.step looks), the manifest, or any process's arguments and variables."""
    room.create()
    seen = room.folder / "seen"
    path = fake_program("pg_dump", f"cat /proc/$$/cmdline /proc/$PPID/cmdline /proc/$$/environ > {seen}\n"
                        f'exec {program("pg_dump", 15)} "$@"')  # fmt: skip
    stem = room.dump(PATH=path)
    found = seen.read_bytes() + (Path(room.uri) / "shop" / f"{stem}.json").read_bytes()
    assert b"service=" in found
    assert PASSWORD.encode() not in found
    room.describe("wrong", "postgres", password="not" + PASSWORD)
    done = room.step("dump", "--database", "wrong")
    assert done.code == 2
    assert "correct user= or password= of [wrong] in" in done.error


@pytest.fixture
def good(room) -> str:
    """A verified backup from before."""
    room.create()
    stem = room.dump()
    mark(room, stem)
    return stem


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "exit 0",
            r"exit code 0 and wrote 0 bytes that are no dump.*pg_dump \(PostgreSQL\) 15.0 \(a fake\).*put it right",
        ),
        ("head -c 3000000 /dev/zero", "exit code 0 and wrote 3000000 bytes that are no dump"),
        (
            "echo PGDMP; echo 'could not read block 7 of relation' >&2; exit 1",
            "exit code 1: could not read block 7.*retry",
        ),
        ("echo PGDMP; kill -9 $$", "ended by signal 9: it said nothing.*retry"),
        ("exit 3", "ended with exit code 3"),
    ],
)
def test_a_pg_dump_that_does_not_do_its_work(room, good, fake_program, script, says):
    done = room.step("dump", "--database", "shop", PATH=fake_program("pg_dump", script))
    assert done.code == 1
    assert_matches(done.error, says)
    assert room.files() == [f"{good}.dump.gz", f"{good}.json", f"{good}.verified.json"]
    still_good(room, good)


def assert_matches(text: str, pattern: str) -> None:
    assert re.search(pattern, text, re.DOTALL), f"{text!r} does not say {pattern!r}"


def partials(room: Room) -> list[str]:
    return [name for name in store(room.uri).names("shop") if name.startswith(".partial-")]


def test_a_power_cut_at_every_step_of_a_dump(room, good):
    """Whenever it ends: the good one is there, nothing half counts, and the next dump cleans up and succeeds."""
    foreign = Path(room.uri) / "shop" / ".partial-of-somebody"
    foreign.write_text("not ours")
    killed, numbers = 0, {1}
    args = dump.Args(database="shop")
    while ended_at(killed + 1, lambda: dump.main(args)):
        killed += 1
        still_good(room, good)
        assert all(backup.whole for backup in room.backups()), f"killed at step {killed}"
        number = choose(store(room.uri), "shop", dump.main(args)["stem"]).manifest.number
        assert number > max(numbers), "no number comes twice"
        numbers.add(number)
        stems = {backup.manifest.stem for backup in room.backups()}
        left = {name.partition(".")[0] for name in room.files() if name != foreign.name}
        assert left == stems, f"left after the step {killed} and the next dump"
    assert killed >= 10
    assert foreign.read_text() == "not ours"


@pytest.mark.parametrize("where", ["folder", "fake_s3"])
def test_killed_while_it_writes(room, good, fake_program, where, request):
    """The server's lock goes with who held it, and so does pg_dump; a bucket shows the upload that did not end."""
    if where == "fake_s3":
        room.uri = request.getfixturevalue("fake_s3")
    written = room.folder / "written"
    path = fake_program("pg_dump", f"echo $$ > {room.folder}/pid; echo PGDMP; head -c 60000000 /dev/urandom\n"
                        f"touch {written}; while echo; do sleep 0.05; done")  # fmt: skip
    process = room.start("dump", "--database", "shop", PATH=path)
    wait_for(written.exists, "some of the dump", 60)
    wait_for(lambda: partials(room), "the partial file", 60)
    process.kill()
    process.communicate()
    wait_for(lambda: not Path(f"/proc/{(room.folder / 'pid').read_text().strip()}").exists(), "pg_dump's end", 60)
    wait_for(lambda: room.step("dump", "--database", "shop").code == 0, "the lock to go", 30)
    assert partials(room) == []
    assert len([name for name in store(room.uri).names("shop") if name.endswith(".dump.gz")]) == len(room.backups())
    if where == "folder":
        still_good(room, good)


@pytest.mark.parametrize("full", ["in the dump", "in the manifest"])
def test_a_full_disk(room, full):
    """Full in the dump, or only when the manifest is to be written: the same words, and the good one there."""
    with small_disk(Path(room.uri), "2m") as enlarge:
        dbname = room.create()
        good = room.dump()
        mark(room, good)
        if full == "in the dump":
            room.server.sql(
                dbname, "CREATE TABLE big AS SELECT gen_random_uuid() AS id FROM generate_series(1, 120000)"
            )
        else:  # the same dump again fits to the page, and nothing after it
            disk, size = os.statvfs(room.uri), (Path(room.uri) / "shop" / f"{good}.dump.gz").stat().st_size
            (Path(room.uri) / "filler").write_bytes(b"x" * (disk.f_bavail - -(-size // disk.f_bsize)) * disk.f_bsize)
        before = room.files()
        done = room.step("dump", "--database", "shop")
        assert done.code == 1
        assert_matches(done.error, "no space left in .* enlarge the volume.*MLOPS_BACKUP_DAYS.*MLOPS_BACKUP_URI")
        counted = {backup.manifest.stem for backup in room.backups()}
        assert counted == {good}
        assert partials(room) == []
        assert room.files() == before
        still_good(room, good)
        enlarge("64m")
        again = room.dump()
        assert {name.partition(".")[0] for name in room.files()} == {good, again}


def test_a_server_killed_in_mid_dump(own_room, fake_program):
    room = own_room
    dbname = room.create()
    good = room.dump()
    mark(room, good)
    room.server.sql(dbname, "CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 400000) n")
    some = room.folder / "some"
    path = fake_program("pg_dump", f"set -o pipefail; {program('pg_dump', 15)} \"$@\" | "
                        f"(head -c 1000000; touch {some}; sleep 1; exec cat)")  # fmt: skip
    result = room.folder / "result"
    process = room.start("dump", "--database", "shop", "--result", str(result), PATH=path)
    wait_for(some.exists, "some of the dump", 60)
    room.server.kill()
    assert process.wait(60) == 1, process.communicate()[1]
    error = json.loads(result.read_text())["error"]
    assert_matches(
        error, "pg_dump.*server closed the connection unexpectedly.*the earlier backups are untouched: retry"
    )
    assert room.files() == [f"{good}.dump.gz", f"{good}.json", f"{good}.verified.json"]
    still_good(room, good)
    done = room.step("dump", "--database", "shop")
    assert done.code == 1
    assert_matches(done.error, "cannot be reached.*start its server")
    (room.server.data / "postmaster.pid").unlink(missing_ok=True)
    room.server.start()
    assert room.step("dump", "--database", "shop").code == 0
    still_good(room, good)
    assert room.step("verify", "--database", "shop", "--backup", good).code == 0, "restorable, and what it was"


def test_two_at_once(room, good, fake_program):
    path = fake_program("pg_dump", f"touch {room.folder}/begun; while [ ! -e {room.folder}/go ]; do sleep 0.05; done\n"
                        f'exec {program("pg_dump", 15)} "$@"')  # fmt: skip
    first = room.start("dump", "--database", "shop", PATH=path)
    wait_for((room.folder / "begun").exists, "the first", 60)
    partial = partials(room)
    second = room.step("dump", "--database", "shop")
    assert second.code == 1
    assert_matches(second.error, rf"another backup of 'shop' is under way \(pid \d+ .*mlops-backup {first.pid}.*retry")
    assert partials(room) == partial != [], "the first is left alone"
    room.create("other")
    assert room.step("dump", "--database", "other").code == 0, "another database is not in the way"
    (room.folder / "go").touch()
    assert first.wait(60) == 0, first.communicate()[1]
    assert [backup.manifest.number for backup in room.backups()] == [1, 2]
    still_good(room, good)


def test_the_lock_goes_when_the_block_ends(room, good):
    with closing(connect("shop")) as one, closing(connect("shop")) as other:
        with lock.only_backup(one, "shop"), pytest.raises(lock.UnderWay), lock.only_backup(other, "shop"):
            pytest.fail("two hold it")
        with lock.only_backup(other, "shop"):
            pass


def test_a_clock_set_back(room, good, monkeypatch):
    """Numbers go on, so the newest is the newest, whatever its time says."""
    now = time.time()
    monkeypatch.setattr(dump.time, "time", lambda: now - 400 * 24 * 3600)
    stem = dump.main(dump.Args(database="shop"))["stem"]
    monkeypatch.undo()
    assert stem.startswith("000002-")
    assert stem[7:] < good[7:]
    still_good(room, good)
    mark(room, stem)
    assert choose(store(room.uri), "shop", "latest").manifest.stem == stem
    assert room.step("rotate", "--database", "shop").answer["deleted"] == []


def test_a_role_without_rights(room, good):
    dbname = room.sections["shop"]
    room.describe("poor", dbname, user=RESTORER)
    room.server.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD %s", PASSWORD)
    try:
        room.describe("nobody", dbname, user="poor")
        done = room.step("dump", "--database", "nobody")
        assert done.code == 2
        assert_matches(done.error, "role poor cannot read.*customers.*GRANT pg_read_all_data TO poor")
        assert not (Path(room.uri) / "nobody").exists()
    finally:
        room.server.sql("postgres", "DROP ROLE poor")


def test_a_bucket(room, fake_s3):
    room.uri = fake_s3
    room.create()
    stem = room.dump()
    backup = room.backups()[0]
    assert backup.whole
    with store(fake_s3).open(f"shop/{backup.manifest.file}") as file:
        assert gzip.decompress(file.read()).startswith(b"PGDMP")
    assert store(fake_s3).names("shop") == [f"{stem}.dump.gz", f"{stem}.json"]
    with pytest.raises(BadInput, match=f"choose one of: {stem} \\(not verified\\)"):
        choose(store(fake_s3), "shop", "latest")


def test_who_owns_what_is_in_the_manifest(room, good):
    """Also of the first role, of which the server keeps no notes; not what an extension brought."""
    dbname = room.sections["shop"]
    room.server.sql(dbname, "CREATE EXTENSION pg_trgm")
    room.dump()
    manifest = choose(store(room.uri), "shop", "newest").manifest
    assert manifest.roles == ["owner of it"]
    assert set(manifest.extensions) == {"pg_trgm", "plpgsql"}
    room.server.sql(dbname, "CREATE TABLE of_admin AS SELECT 1")
    room.dump()
    assert choose(store(room.uri), "shop", "newest").manifest.roles == ["admin", "owner of it"]


def test_a_dump_that_was_deleted_under_it_does_not_count(room, good, monkeypatch):
    """Whose connection, and so whose lock, was ended by somebody is cleaned up by another run."""

    def counted(connection, before):
        for name in room.files():
            if name.startswith("000002"):
                store(room.uri).delete(f"shop/{name}")
        return contents(connection, before)

    monkeypatch.setattr(dump, "contents", counted)
    with pytest.raises(dump.DumpFailed, match="was deleted while the rows were counted; retry"):
        dump.main(dump.Args(database="shop"))
    assert [backup.manifest.number for backup in room.backups()] == [1]


def test_a_session_that_is_ended_while_rows_are_counted(room, good, monkeypatch):
    """By an administrator, or a server that restarts: the dump was complete, and still does not count."""

    def counted(connection, before):
        room.server.sql("postgres", "SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
        return contents(connection, before)

    before = room.files()
    monkeypatch.setattr(dump, "contents", counted)
    with pytest.raises(dump.DumpFailed, match=r"(?s)the server gave up while 'shop' was.*look into its log"):
        dump.main(dump.Args(database="shop"))
    assert room.files() == before
    still_good(room, good)
