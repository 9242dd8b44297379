"""An operator without Airflow: the runbook's own commands, run as they stand on the page, on a terminal and without."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest

from include.code_version import ROOT
from tests.integration.backup.server import OWNER, PASSWORD
from tests.integration.backup.test_stage import figures, ours, untouched

pytestmark = pytest.mark.timeout(120)

PAGE = ROOT / "docs" / "runbooks" / "restore-without-airflow.md"
OF_AIRFLOW = """
CREATE TABLE dag_run (id int PRIMARY KEY); CREATE TABLE task_instance (id int); CREATE TABLE job (id int);
INSERT INTO dag_run SELECT generate_series(1, 50); INSERT INTO job SELECT generate_series(1, 7);
"""
PATIENCE = 60


def commands(heading: str) -> str:
    """The fenced commands below a heading of the page."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, heading
    return found[0]


class Shell:
    """The page's commands in bash, in the environment that its first block sets."""

    def __init__(self, room, dbname):
        self.dbname = dbname
        environment = room.environ(restores=True)
        self.environment = {k: v for k, v in environment.items() if k not in ("PGSERVICEFILE", "MLOPS_BACKUP_URI")}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        places = {"/run/databases/pg_service.conf": environment["PGSERVICEFILE"], "/backups": room.uri}
        self.prepare = commands("What you need")
        for place, here in places.items():
            assert self.prepare.count(place) == 1
            self.prepare = self.prepare.replace(place, f"'{here}'")

    def run(self, text):
        """Its exit code, and all that it says."""
        script = f"set -e -o pipefail\n{self.prepare}\n{text}"
        done = subprocess.run(
            ["bash", "-c", script],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert PASSWORD not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def answer(self, text, words):
        """The same on a terminal, where `words` are typed when it asks."""
        ours, its = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-c", f"set -e\n{self.prepare}\n{text}"],
            env=self.environment, cwd=ROOT, stdin=its, stdout=its, stderr=its, start_new_session=True,
        )  # fmt: skip
        os.close(its)
        said, asked, deadline = b"", False, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    said += os.read(ours, 65536)
                except OSError:  # everybody has closed it
                    break
            if not asked and b"to go on" in said:
                os.write(ours, f"{words}\n".encode())
                asked = True
        os.close(ours)
        return process.wait(PATIENCE), asked


@pytest.fixture
def records(room, server):
    """Airflow's own database, verified in the store; since then much was lost. Its real name."""
    dbname = room.create("airflow", sql=OF_AIRFLOW)
    room.dump("airflow")
    assert room.step("verify", "--database", "airflow").code == 0
    server.sql(dbname, "DROP TABLE task_instance; DELETE FROM dag_run WHERE id > 3", user=OWNER)
    return dbname


def runs(server, dbname):
    return server.sql(dbname, "SELECT count(*) FROM dag_run", user=OWNER)[0][0]


def test_the_runbook_restores_airflows_own_database(records, room, server):
    before = figures(server, records)
    shell = Shell(room, records)

    code, said = shell.run(commands("1. See which backups there are, and what a restore would change"))
    assert code == 0
    assert room.backups("airflow")[-1].manifest.stem in said
    assert "public.dag_run" in said
    assert "Nothing was changed." in said
    assert untouched(server, records, before)
    assert ours(server, records) == {records}

    replace = commands("3. Replace it")
    assert shell.answer(replace, "yes") == (0, True), "not the name: a no"
    assert untouched(server, records, before)
    assert ours(server, records) == {records}
    assert shell.answer(replace, records) == (0, True)
    assert runs(server, records) == 50
    assert server.sql(records, "SELECT count(*) FROM task_instance", user=OWNER) == [(0,)]
    assert len(ours(server, records)) == 2

    back = commands("Go back")
    for _ in range(2):
        assert shell.run(back)[0] == 0
        assert untouched(server, records, before)

    forget = commands("Later: drop what is kept")
    assert shell.run(forget)[0] == 0
    assert len(ours(server, records)) == 2, "not old enough"
    assert shell.run(f"export MLOPS_RESTORE_KEEP_DAYS=0\n{forget}")[0] == 0
    assert ours(server, records) == {records}


def test_the_file_is_read_by_postgresqls_own_tools(records, room, server):
    room.made.append("airflow_by_hand")
    code, said = Shell(room, records).run(commands("With PostgreSQL's own tools alone"))
    assert code == 0, said
    assert server.sql("airflow_by_hand", "SELECT count(*) FROM dag_run") == [(50,)]


def test_every_command_of_the_page_is_one_that_a_test_runs():
    """A block that is added to the page has to be added here."""
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    with_commands = [
        heading for heading in headings if "```sh" in PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    ]
    assert with_commands == [
        "What you need",
        "1. See which backups there are, and what a restore would change",
        "3. Replace it",
        "Go back",
        "Later: drop what is kept",
        "With PostgreSQL's own tools alone",
    ]


def test_on_a_server_that_lost_everything(records, room, server):
    server.drop_database(records)
    done = room.step("restore", "--database", "airflow", "--yes", "true", restores=True)
    assert done.code == 0
    assert (done.answer["restored"], done.answer["kept"]) == (True, None)
    assert runs(server, records) == 50


def test_what_failed_says_how_to_go_back_and_that_is_the_command_of_the_page(records, room, server):
    migrations = {"MLOPS_RESTORE_MIGRATIONS": '{"airflow": ["false"]}'}
    done = room.step("restore", "--database", "airflow", "--yes", "true", restores=True, **migrations)
    assert done.code == 3
    told = done.error.rpartition(": ")[2]
    assert told == commands("Go back").strip().replace('"$DATABASE"', "airflow")
    assert Shell(room, records).run(told)[0] == 0
    assert runs(server, records) == 3


def test_without_a_terminal_somebody_has_to_say_yes(records, room, server):
    code, said = Shell(room, records).run(commands("3. Replace it"))
    assert code == 2
    assert "say --yes true to restore without asking, or --dry-run true" in said
    assert ours(server, records) == {records}


def test_airflow_is_sent_to_the_page(records, room, server):
    done = room.step("stage", "--database", "airflow", "--by-airflow", "true", restores=True)
    assert done.code == 2
    page = re.search(r"docs/runbooks/\S+\.md", done.error)
    assert page is not None
    assert ROOT / page[0] == PAGE
    assert ours(server, records) == {records}


def test_a_wrong_password_and_a_server_that_is_away(records, room, server, tmp_path):
    for user, port, code, said in (
        ("restorer", server.port, 2, r"password authentication failed.*correct user= or password= of \[airflow\]"),
        ("restorer", 1, 1, "cannot be reached"),
    ):
        path = tmp_path / "other.conf"
        path.write_text(f"[airflow]\nhost=127.0.0.1\nport={port}\nuser={user}\npassword=not it\ndbname={records}\n")
        done = room.step("restore", "--database", "airflow", "--yes", "true", PGSERVICEFILE=str(path))
        assert done.code == code
        assert re.search(said, done.error, re.DOTALL)
        assert "not it" not in done.log


def test_a_no_is_a_no_also_when_the_terminal_is_closed(records, room, server):
    code, asked = Shell(room, records).answer(commands("3. Replace it"), "\x04")
    assert (code, asked) == (0, True)
    assert runs(server, records) == 3
    assert ours(server, records) == {records}
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        server.connect(f"{records}__restore_{room.backups('airflow')[-1].manifest.stem}")
