"""A real PostgreSQL of the tests' own: passwords are asked for over TCP, and it may be killed."""

import os
import pwd
import signal
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from include.backup.programs import program
from tests.integration.serving.conftest import free_port

PASSWORD = "p@ss:/?#[]%20&+ $(x) `y` '\"\\;|<>*~!{}=é"  # what shells, URLs and SQL would take for theirs
ADMIN, OWNER, READER, RESTORER = "admin", "owner of it", "backup", "restorer"
PATIENCE = 60


class Server:
    """`initdb` in a folder of its own, below /tmp, where the user who runs it can reach it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.data, self.log = self.folder / "data", self.folder / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        initdb = [*self._prefix, program("initdb", 15), "-D", str(self.data), "-U", ADMIN, f"--pwfile={secret}"]
        form = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run([*initdb, *form], check=True, capture_output=True)
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses='127.0.0.1'\nport={self.port}\nunix_socket_directories=''\nfsync=off\n"
                "shared_buffers=64MB\nmax_connections=60\nmax_locks_per_transaction=512\nautovacuum=off\n"
            )
        self.start()
        self.sql("postgres", f'CREATE ROLE "{OWNER}" LOGIN PASSWORD %s', PASSWORD)
        self.sql("postgres", f'CREATE ROLE "{READER}" LOGIN PASSWORD %s', PASSWORD)
        self.sql("postgres", f'CREATE ROLE "{RESTORER}" LOGIN CREATEDB PASSWORD %s', PASSWORD)
        self.sql("postgres", f'GRANT pg_read_all_data TO "{READER}"')
        self.sql("postgres", f'GRANT "{OWNER}", pg_signal_backend TO "{RESTORER}"')

    def start(self) -> None:
        """Until it answers."""
        postgres = [*self._prefix, program("postgres", 15), "-D", str(self.data)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(postgres, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg2.OperationalError:
                assert self.runs(), self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut would: no process of it says good-bye. The children end when they find the parent gone."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """At once, without asking those who are connected."""
        if self._process is not None and self.runs():
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(PATIENCE)

    def runs(self) -> bool:
        """It was not stopped or killed."""
        return self._process is not None and self._process.poll() is None

    def connect(self, dbname: str, user: str = ADMIN) -> Any:
        """A connection that commits by itself."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=user, password=PASSWORD, dbname=dbname, client_encoding="UTF8"
        )
        connection.autocommit = True
        return connection

    def sql(self, dbname: str, statement: str, *values: object, user: str = ADMIN) -> list[tuple[Any, ...]]:
        """Run it as the superuser (or `user`); the rows of its answer."""
        with closing(self.connect(dbname, user)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, dbname: str, more: str = "") -> None:
        """A database of OWNER's."""
        quoted = dbname.replace('"', '""')
        self.sql("postgres", f'CREATE DATABASE "{quoted}" OWNER "{OWNER}" {more}')

    def drop_database(self, dbname: str) -> None:
        """With whoever is connected."""
        quoted = dbname.replace('"', '""')
        self.sql("postgres", f'DROP DATABASE IF EXISTS "{quoted}" WITH (FORCE)')

    def databases(self) -> set[str]:
        """Those that the server has, without its own."""
        return {name for (name,) in self.sql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate")}

    def service(self, name: str, dbname: str, user: str, password: str = PASSWORD) -> str:
        """A section of a service file."""
        return f"[{name}]\nhost=127.0.0.1\nport={self.port}\nuser={user}\npassword={password}\ndbname={dbname}\n"
