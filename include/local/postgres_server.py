"""PostgreSQL as a local process: what Airflow and MLflow store, each in a database of its own."""

import os
import pwd
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from include.local.process import Process
from include.local.programs import path_of, run
from include.local.state import State

DATABASES = ("airflow", "mlflow")
USER = "mlops"
READER = "backup"  # reads everything and writes nothing
# What libpq's PGSERVICEFILE may name, as a pod gets it from the Secret of the same name: the user of each.
SERVICES = {"backup-databases": READER, "restore-databases": USER}


def postgres_server(state: State, port: int) -> Process:
    """One server that only this machine reaches. Like Redis and Kafka it asks nobody of this machine for a password.

    What is lost when the machine itself stops at once (`synchronous_commit=off`) is less than a second.
    """
    data = state.data("postgres")
    cluster = data / "cluster"
    return Process(
        name="postgres",
        argv=[
            *(*_not_as_root(), path_of("postgres"), "-D", str(cluster), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "synchronous_commit=off", "-c", "shared_buffers=64MB", "-c", "max_connections=200"),
        ],
        prepare=lambda say: _prepare(data, cluster),
        furnish=lambda say: _furnish(port, state),
        ready=lambda: _answers(port),
        address=f"127.0.0.1:{port}",
        port=port,
    )


def database_url(port: int, name: str) -> str:
    """What SQLAlchemy connects to."""
    return f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/{name}"


def _not_as_root() -> Sequence[str]:
    """PostgreSQL refuses root. What runs it instead may pass folders that are root's alone, such as its home."""
    if os.geteuid() != 0:
        return ()
    user = _other_user()
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ("setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")


def _other_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _prepare(data: Path, cluster: Path) -> None:
    if cluster.exists():
        return
    begun = data / "begun"
    shutil.rmtree(begun, ignore_errors=True)  # interrupted: it never served
    if os.geteuid() == 0:
        user = _other_user()
        os.chown(data, user.pw_uid, user.pw_gid)
    form = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    run(
        [*_not_as_root(), path_of("initdb"), "-D", str(begun), f"--username={USER}", *form],
        f"{cluster} cannot be made a folder of PostgreSQL",
    )
    begun.rename(cluster)


def _answers(port: int) -> bool:
    """A server that still recovers from a kill takes connections only to refuse them."""
    import psycopg2  # type: ignore[import-untyped]

    try:
        _connect(port).close()
    except psycopg2.OperationalError:
        return False
    return True


def _connect(port: int) -> Any:
    import psycopg2

    return psycopg2.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=2)


def services_folder(state: State) -> Path:
    """Where the service files lie."""
    return state.data("services")


def _furnish(port: int, state: State) -> None:
    _create_databases(port)
    folder = services_folder(state)
    folder.mkdir(parents=True, exist_ok=True)
    for name, user in SERVICES.items():
        sections = [
            f"[{database}]\nhost=127.0.0.1\nport={port}\nuser={user}\ndbname={database}\n" for database in DATABASES
        ]
        (folder / f"{name}.conf").write_text("\n".join(sections))


def _create_databases(port: int) -> None:
    with closing(_connect(port)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            there = {name for (name,) in cursor.fetchall()}
            for name in set(DATABASES) - there:
                cursor.execute(f'CREATE DATABASE "{name}"')
            cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [READER])
            if not cursor.fetchall():
                cursor.execute(f"CREATE ROLE {READER} LOGIN BYPASSRLS IN ROLE pg_read_all_data")
