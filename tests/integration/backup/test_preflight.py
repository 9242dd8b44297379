"""What would fail in the night is said before, with the command that mends it, and that command does."""

import os
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from include.backup import preflight, programs
from include.backup.connection import connect, one
from include.command import BadInput
from tests.integration.backup.conftest import Room
from tests.integration.backup.kept import mark
from tests.integration.backup.server import PASSWORD
from tests.integration.backup.small_disk import small_disk
from tests.integration.serving.conftest import free_port

pytestmark = pytest.mark.timeout(120)


def test_all_well(room):
    dbname = room.create()
    done = room.step("preflight", "--database", "shop")
    assert done.code == 0
    size = room.server.sql("postgres", "SELECT pg_database_size(%s)", dbname)[0][0]
    assert done.answer["database_size"] == done.answer["needed"] == size
    assert done.answer["free"] > size
    assert done.answer["server_version"].startswith("15")
    assert room.files() == [], "it leaves nothing"
    room.dump()
    assert room.step("preflight", "--database", "shop").answer["needed"] == 2 * room.backups()[0].manifest.size


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("", r"service .* not found; add the section \[shop\] to .*pg_service.conf"),
        ("user={user}\npassword=wrong", r"password authentication failed.*; correct user= or password= of \[shop\]"),
        ("user={user}", r"no password supplied; add password= to \[shop\]"),
        ("user=nobody at all\npassword=x", r"correct user= or password= of \[shop\]"),
        ("user={user}\npassword={password}\ndbname=none", r'database "none" does not exist; create the database'),
        ("user={user}\nthis is no line", r"syntax error in service file.*; correct .*pg_service.conf"),
    ],
)
def test_a_service_that_is_wrong(room, section, says):
    text = section.format(user="backup", password=PASSWORD)
    file = Path(room.environ()["PGSERVICEFILE"])
    more = "" if "dbname" in text else "\ndbname=postgres"
    file.write_text(f"[shop]\nhost=127.0.0.1\nport={room.server.port}\n{text}{more}\n" if text else "")
    done = room.step("preflight", "--database", "shop")
    assert done.code == 2
    assert re.search(says, done.error)


def test_no_file_of_services(room):
    done = room.step("preflight", "--database", "shop", PGSERVICEFILE="/nowhere/at.all")
    assert done.code == 2
    assert "set PGSERVICEFILE to the file that describes the databases" in done.error


def test_a_server_that_is_away_may_come_again(room):
    file = Path(room.environ()["PGSERVICEFILE"])
    file.write_text(f"[shop]\nhost=127.0.0.1\nport={free_port()}\nuser=x\npassword=x\ndbname=x\n")
    done = room.step("preflight", "--database", "shop")
    assert done.code == 1
    assert "cannot be reached" in done.error
    assert "start its server" in done.error


def test_tools_older_than_the_server(room, tmp_path, monkeypatch):
    room.create()
    for tool in preflight.TOOLS:
        path = tmp_path / "old" / tool
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{tool} (PostgreSQL) 13.4'\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    monkeypatch.setattr(programs, "FOLDERS", "nowhere/*")
    with pytest.raises(
        BadInput, match=r"old/pg_dump is of version 13; install it .*apt-get install postgresql-client-15"
    ):
        preflight.main(preflight.Args(database="shop"))


@pytest.fixture
def poor(room: Room):
    """A role that was granted nothing, and the service of that name."""
    room.server.sql("postgres", "CREATE ROLE poor LOGIN PASSWORD %s", PASSWORD)
    room.describe("poor", room.create(), user="poor")
    yield "poor"
    for dbname in room.made:
        room.server.sql(dbname, "DROP OWNED BY poor")
    room.server.sql("postgres", "DROP ROLE poor")


def advice(room: Room, service: str) -> str:
    """The one command that the refusal names."""
    done = room.step("preflight", "--database", service)
    assert done.code == 2
    (command,) = re.findall(r"run as .*?: (.*?)(?=$|\. )", done.error)
    return str(command)


def test_a_role_that_may_not_read_tables(room, poor):
    command = advice(room, poor)
    assert command == "GRANT pg_read_all_data TO poor"
    room.server.sql("postgres", command)
    assert room.step("preflight", "--database", poor).code == 0


def test_a_schema_that_a_role_may_not_use(room, poor):
    dbname = room.sections[poor]
    room.server.sql(dbname, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor")
    room.server.sql(dbname, "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO poor")
    assert room.step("preflight", "--database", poor).code == 0, "so much is enough"
    room.server.sql(dbname, "CREATE SCHEMA closed; CREATE TABLE closed.t AS SELECT 1; GRANT SELECT ON closed.t TO poor")
    done = room.step("preflight", "--database", poor)
    assert done.code == 2
    assert "closed.t: it may not SELECT" in done.error


def test_rows_that_a_policy_hides(room, poor):
    room.server.sql("postgres", "GRANT pg_read_all_data TO poor")
    room.server.sql(room.sections[poor], "ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    command = advice(room, poor)
    assert command == "ALTER ROLE poor BYPASSRLS"
    assert room.step("dump", "--database", poor).code == 2
    room.server.sql("postgres", command)
    assert room.step("preflight", "--database", poor).code == 0
    assert room.step("dump", "--database", poor).answer["rows"] == 7000


def test_large_objects_that_a_role_may_not_read(room, poor):
    dbname = room.sections[poor]
    room.server.sql("postgres", "GRANT pg_read_all_data TO poor")
    room.server.sql(dbname, "SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 9)")
    command = advice(room, poor)
    assert re.fullmatch(r"GRANT SELECT ON LARGE OBJECT \d+(, \d+){8} TO poor", command)
    assert room.step("dump", "--database", poor).code == 2
    room.server.sql(dbname, command)
    assert room.step("preflight", "--database", poor).code == 0
    assert room.step("dump", "--database", poor).code == 0


def test_too_little_space_is_refused(room):
    room.create()
    with small_disk(Path(room.uri), "1m"):
        done = room.step("preflight", "--database", "shop")
        assert done.code == 3
        assert "GiB free" in done.error
        assert "MLOPS_BACKUP_URI" in done.error
        assert done.answer["free"] < done.answer["needed"]
        stem = room.dump()
        mark(room, stem)
        assert room.step("preflight", "--database", "shop").code == 0, "twice the last one fits"


def test_a_place_that_cannot_be_written(room, fake_s3):
    room.create()
    (room.folder / "file").write_text("")
    done = room.step("preflight", "--database", "shop", MLOPS_BACKUP_URI=str(room.folder / "file"))
    assert done.code == 2
    assert "correct MLOPS_BACKUP_URI" in done.error
    done = room.step("preflight", "--database", "shop", MLOPS_BACKUP_URI="s3://none-of-that-name/x")
    assert done.code == 2
    assert "create the bucket or correct MLOPS_BACKUP_URI" in done.error
    done = room.step("preflight", "--database", "shop", MLOPS_BACKUP_URI=fake_s3)
    assert done.code == 0
    assert done.answer["free"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_folder_of_another_user(room):
    room.create()
    locked = room.folder / "locked"
    locked.mkdir(mode=0o555)
    code = (
        "import os, sys; from include.backup.preflight import check_writable; from include.backup.store import store;"
        "kept = store(sys.argv[1]); os.setuid(65534); check_writable(kept, 'shop')"
    )
    for path in (room.folder, *room.folder.parents[:2]):
        path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run(
        [os.sys.executable, "-c", code, str(locked)], env=room.environ(), capture_output=True, text=True
    )
    assert "BadInput" in done.stderr, done.stderr
    assert "let this user write there, or correct MLOPS_BACKUP_URI" in done.stderr


def test_sessions_of_ours_have_no_time_limits(room):
    """The server's, or the role's, would end a backup of hours."""
    room.create()
    room.server.sql("postgres", "ALTER ROLE backup SET statement_timeout = '1s'")
    room.server.sql("postgres", "ALTER ROLE backup SET idle_in_transaction_session_timeout = '1s'")
    try:
        with closing(connect("shop")) as connection:
            assert one(connection, "SHOW statement_timeout") == "0"
            assert one(connection, "SHOW idle_in_transaction_session_timeout") == "0"
    finally:
        room.server.sql("postgres", "ALTER ROLE backup RESET ALL")
