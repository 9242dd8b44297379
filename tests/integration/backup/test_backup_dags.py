"""Both DAGs through `airflow dags test`, on a real server: backed up, lost, and brought back."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import httpx
import pytest

from tests.integration.airflow_cli import Airflow
from tests.integration.backup.conftest import PASSWORD, Room

pytestmark = pytest.mark.timeout(600)
ROWS = "SELECT count(*) FROM customers"


@pytest.fixture
def airflow(room: Room, pushgateway: str, tmp_path: Path) -> Airflow:
    """Its steps find the service files as in the local stack."""
    room.create()
    services = tmp_path / "services"
    services.mkdir()
    for what in ("backup", "restore"):
        (services / f"{what}-databases.conf").symlink_to(tmp_path / f"{what}.pg_service.conf")
    return Airflow(
        tmp_path / "airflow",
        {
            "MLOPS_BACKUP_URI": room.uri,
            "MLOPS_BACKUP_DATABASES": json.dumps(["shop"]),
            "MLOPS_LOCAL_SERVICES": str(services),
            "MLOPS_PUSHGATEWAY_URL": pushgateway,
        },
        date(2026, 1, 1),
    )


def test_back_up_lose_and_restore(airflow: Airflow, room: Room, pushgateway: str) -> None:
    dbname = room.sections["shop"]
    before = room.server.sql(dbname, ROWS)
    done = airflow.test("backup_databases")
    assert done.returncode == 0, done.stdout[-4000:]
    assert [backup.good for backup in room.backups()] == [True]
    told = httpx.get(f"{pushgateway}/metrics", trust_env=False).text
    for metric in (
        "backup_last_success_timestamp_seconds",
        "backup_last_verified_timestamp_seconds",
        "backup_size_bytes",
    ):
        assert f'{metric}{{database="shop"' in told

    room.server.sql(dbname, "DROP TABLE customers CASCADE")
    tried = airflow.test("restore_database", database="shop", approve=False, dry_run=True)
    assert tried.returncode == 0, tried.stdout[-4000:]
    assert not [name for name in room.server.databases() if name.startswith(f"{dbname}__")], "a dry run leaves nothing"

    restored = airflow.test("restore_database", database="shop", approve=False)
    assert restored.returncode == 0, restored.stdout[-4000:]
    assert room.server.sql(dbname, ROWS) == before
    assert [name for name in room.server.databases() if name.startswith(f"{dbname}__before_")]
    for run in (done, tried, restored):
        assert PASSWORD not in run.stdout + run.stderr


def test_a_restore_of_nothing_fails_the_run(airflow: Airflow, room: Room) -> None:
    """The teardown succeeds and comes last: it must not make a success of the run."""
    before = room.server.databases()
    tried = airflow.test("restore_database", database="shop", backup="7", approve=False)
    assert "end task task_id=discard" in tried.stdout, tried.stdout[-4000:]
    assert tried.returncode != 0, tried.stdout[-4000:]
    assert room.server.databases() == before


def test_a_backup_that_is_not_verified_fails_the_run_and_is_told(
    airflow: Airflow, room: Room, pushgateway: str, fake_program: Callable[..., str]
) -> None:
    """pg_restore that loses a table: the run fails without a retry, and the metrics say so."""
    airflow.env["PATH"] = fake_program("pg_restore", "exit 1")
    done = airflow.test("backup_databases")
    assert done.returncode != 0
    assert "is not verified" in done.stdout
    assert [(backup.verified is None) for backup in room.backups()] == [True]
    told = httpx.get(f"{pushgateway}/metrics", trust_env=False).text
    verified = next(line for line in told.splitlines() if line.startswith("backup_last_verified_timestamp_seconds{"))
    assert verified.endswith("} 0"), "none of this store was ever verified, so BackupNotVerified can fire"
