"""A real server, a database of each test's own in it, and the steps as the processes that they are."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from include.backup.catalogue import Backup, backups
from include.backup.store import store
from include.code_version import ROOT
from include.settings import settings
from tests.fake_s3 import fake_s3  # noqa: F401 - fixture
from tests.integration.backup.server import OWNER, PASSWORD, READER, RESTORER, Server

DATA = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, spent numeric(12, 2), since timestamptz);
INSERT INTO customers
  SELECT n, 'customer ' || md5(n::text), n * 1.25, '2026-01-01'::timestamptz + n * interval '1 minute'
  FROM generate_series(1, 2000) n;
CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint REFERENCES customers, total double precision);
INSERT INTO orders (customer, total) SELECT 1 + n % 2000, random() * 100 FROM generate_series(1, 5000) n;
"""


class Done(NamedTuple):
    """How a step ended."""

    code: int
    answer: dict[str, Any]
    log: str

    @property
    def error(self) -> str:
        """What it said was wrong."""
        return str(self.answer["error"])


class Room:
    """A server, the services of it, a store, and the steps that work with them."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.uri = str(folder / "backups")
        self.sections: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.made: list[str] = []

    def create(self, service: str = "shop", dbname: str | None = None, sql: str = DATA, more: str = "") -> str:
        """A new database with something in it, and the service of that name. Returns its real name."""
        dbname = dbname or f"shop_{uuid.uuid4().hex[:8]}"
        self.server.create_database(dbname, more)
        self.made.append(dbname)
        if sql:
            self.server.sql(dbname, sql, user=OWNER)
        self.describe(service, dbname)
        return dbname

    def describe(self, service: str, dbname: str, user: str = READER, password: str = PASSWORD) -> None:
        """Write the service into the files for backups and for restores."""
        self.sections[service] = dbname
        with self._file("backup").open("a") as file:
            file.write(self.server.service(service, dbname, user, password))
        with self._file("restore").open("a") as file:
            file.write(self.server.service(service, dbname, RESTORER))

    def environ(self, restores: bool = False, **more: str) -> dict[str, str]:
        """What a step's process gets; `restores`: with the service file of restores."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "PG"))}
        ours = {
            "PYTHONPATH": str(ROOT),
            "PGSERVICEFILE": str(self._file("restore" if restores else "backup")),
            "MLOPS_BACKUP_URI": self.uri,
        }
        return kept | ours | self.environment | more

    def start(self, step: str, *flags: str, restores: bool = False, **more: str) -> "subprocess.Popen[str]":
        """A step that is not waited for; `more` is its environment."""
        return subprocess.Popen(
            [sys.executable, "-m", f"include.backup.{step}", *flags],
            env=self.environ(restores, **more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def step(self, step: str, *flags: str, restores: bool = False, **more: str) -> Done:
        """`python -m include.backup.STEP FLAGS` to its end."""
        result = self.folder / f"{uuid.uuid4().hex}.json"
        process = self.start(step, *flags, "--result", str(result), restores=restores, **more)
        out, log = process.communicate()
        sys.stdout.write(f"--- {step} {' '.join(flags)}: {process.returncode}\n{log}")  # shown when the test fails
        answer = json.loads(result.read_text()) if result.exists() else {}
        assert PASSWORD not in log + out + json.dumps(answer, ensure_ascii=False)
        return Done(process.returncode, answer, log)

    def dump(self, service: str = "shop", **more: str) -> str:
        """A backup that must succeed. Returns its stem."""
        done = self.step("dump", "--database", service, **more)
        assert done.code == 0, done.log
        return str(done.answer["stem"])

    def backups(self, service: str = "shop") -> list[Backup]:
        """What the store holds."""
        return backups(store(self.uri), service)

    def files(self, service: str = "shop") -> list[str]:
        """The names of all files in the folder of a database whose name needs no quoting."""
        folder = Path(self.uri) / service
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def _file(self, what: str) -> Path:
        path = self.folder / f"{what}.pg_service.conf"
        path.touch(mode=0o600)
        return path


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Started once for all tests that leave it running."""
    server = Server()
    yield server
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that the test may kill."""
    server = Server()
    yield server
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """An empty store, and service files without a section: `room.create()` adds one. Also for code in this process."""
    yield from _room(server, tmp_path, monkeypatch)


@pytest.fixture
def own_room(own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """The same with a server that may be killed."""
    yield from _room(own_server, tmp_path, monkeypatch)


@pytest.fixture
def fake_program(tmp_path: Path) -> Callable[[str, str], str]:
    """Put a shell script in the place of a program: `fake_program("pg_dump", "exit 0")` is the PATH that finds it."""

    def put(name: str, script: str, version: int = 15) -> str:
        folder = tmp_path / f"fake_{name}"
        folder.mkdir(exist_ok=True)
        says = f'if [ "$1" = --version ]; then echo "{name} (PostgreSQL) {version}.0 (a fake)"; exit; fi'
        (folder / name).write_text(f"#!/bin/bash\n{says}\n{script}\n")
        (folder / name).chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return put


def _room(server: Server, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(server, folder)
    patch.setenv("PGSERVICEFILE", room.environ()["PGSERVICEFILE"])
    patch.setenv("MLOPS_BACKUP_URI", room.uri)
    settings.cache_clear()
    yield room
    settings.cache_clear()
    if server.runs():
        for dbname in room.made:
            server.drop_database(dbname)
