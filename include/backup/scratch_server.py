"""A throw-away PostgreSQL in a temporary folder, reached by a socket in it and by nobody else.

It asks for no password: the folder is its user's alone. Nothing in it has to survive, so nothing is synced. The folder
is TMPDIR's, which needs room for the whole database. A run that is killed leaves folder and server behind; the next one
ends and removes them.
"""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg2  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from psycopg2.extensions import make_dsn

from include.backup.programs import program, said_version
from include.command import BadInput

PREFIX = "mlops-scratch-"
OWNED = "owned"  # locked for as long as the run lives; the kernel unlocks it however the run ends
USER = "mlops_scratch"
LONGEST_SOCKET = 107  # bytes of a Unix socket's path
START_SECONDS = 60.0
STOP_SECONDS = 30.0

# max_locks_per_transaction: a comparison of many thousand tables is one transaction.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "max_connections": "20",
    "max_locks_per_transaction": "1024",
    "logging_collector": "off",
}


@dataclass(frozen=True)
class Scratch:
    """The running server; `folder` holds its socket."""

    folder: Path
    version: str

    def conninfo(self, dbname: str = "postgres") -> str:
        """What libpq connects to, without a password."""
        return str(make_dsn(host=str(self.folder), port="5432", user=USER, dbname=dbname))

    def connect(self, dbname: str = "postgres") -> Connection:
        """A connection, in UTF-8."""
        return psycopg2.connect(self.conninfo(dbname), client_encoding="UTF8")


@contextlib.contextmanager
def scratch_server(at_least: int, room: int = 0) -> Iterator[Scratch]:
    """A server of that major version or a newer one, gone when the block ends; `room`: bytes it will hold.

    Raises BadInput when PostgreSQL's programs or a short enough TMPDIR are missing, OSError when there is no room.
    """
    initdb, postgres = program("initdb", at_least), program("postgres", at_least)
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    if (free := shutil.disk_usage(parent).free) < room:
        raise OSError(
            f"{parent} has {free:,} bytes free and a scratch database needs {room:,}: make room, or set TMPDIR"
        )
    with _own_folder(parent) as folder:
        try:
            if len(os.fsencode(folder / ".s.PGSQL.5432")) > LONGEST_SOCKET:
                raise BadInput(f"TMPDIR {parent} is too long for a Unix socket in it; set a shorter one, such as /tmp")
            _initialise(initdb, folder)
            process = _start(postgres, folder)
            try:
                _await(process, folder)
                yield Scratch(folder, said_version(postgres))
            finally:
                _end(process)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _own_folder(parent: Path) -> Iterator[Path]:
    """A new one. It has its name only when it is owned: until then it would look like a leftover to another run."""
    new = Path(tempfile.mkdtemp(prefix="mlops-new-", dir=parent))
    (new / OWNED).touch()
    with _owned(new):
        yield new.rename(parent / new.name.replace("mlops-new-", PREFIX))


def remove_leftovers(parent: Path) -> list[Path]:
    """End and remove what killed runs left in `parent`. Returns their folders."""
    removed = []
    for folder in sorted(parent.glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError, psutil.Error), _owned(folder):  # of a run that lives, or of somebody else
            _end_server_of(folder)
            shutil.rmtree(folder)
            removed.append(folder)
    return removed


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Raises OSError when another run owns the folder."""
    with (folder / OWNED).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _not_as_root(folder: Path) -> list[str]:
    """PostgreSQL refuses root. Who runs it instead owns the folder."""
    if os.geteuid() != 0:
        return []
    user = next(filter(None, map(_user, ("postgres", "nobody"))), None)
    if user is None:
        raise BadInput("PostgreSQL refuses to run as root, and there is no user postgres or nobody; add one of them")
    os.chown(folder, user.pw_uid, user.pw_gid)
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ["setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _initialise(initdb: str, folder: Path) -> None:
    form = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={USER}")
    command = [*_not_as_root(folder), initdb, "-D", str(folder / "data"), *form]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise OSError(f"no scratch server can be made in {folder}: {(done.stderr or done.stdout).strip()[-500:]}")


def _start(postgres: str, folder: Path) -> "subprocess.Popen[bytes]":
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    command = [*_not_as_root(folder), postgres, "-D", str(folder / "data"), "-p", "5432", *options]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*command, f"--unix_socket_directories={folder}"], stdout=log, stderr=log, cwd="/")


def _await(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            Scratch(folder, "").connect().close()
            return
        except psycopg2.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = (folder / "log").read_text(errors="replace").strip()[-500:]
                raise OSError(f"the scratch server in {folder} does not answer: {said or error}") from error
            time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """At once: there is nothing to keep."""
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_server_of(folder: Path) -> None:
    """The server that a killed run left; a process that has its number by now is not it."""
    with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
        server = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
        if str(folder / "data") in server.cmdline():
            server.send_signal(signal.SIGQUIT)
            server.wait(STOP_SECONDS)
