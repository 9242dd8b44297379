"""What Prometheus is told: as a server in the place of the Pushgateway (`fake_pushgateway`) gets it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.integration.backup.kept import mark
from tests.integration.serving.conftest import free_port

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def fake_pushgateway() -> Iterator[tuple[str, dict[str, str]]]:
    """Its address, and what was posted by path."""
    posted: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted[self.path] = self.rfile.read(int(self.headers["content-length"])).decode()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()


def figures(text: str) -> dict[str, float]:
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}


def test_what_is_told(room, fake_pushgateway):
    url, posted = fake_pushgateway
    room.create()
    stem = room.dump()
    done = room.step("report", "--database", "shop", "--backup", stem, MLOPS_PUSHGATEWAY_URL=url)
    assert done.code == 0
    (path,) = posted
    assert path == "/metrics/job/backup/database/shop"
    manifest = room.backups()[0].manifest
    assert figures(posted[path]) == {
        "backup_last_success_timestamp_seconds": pytest.approx(manifest.ended),
        "backup_last_verified_timestamp_seconds": 0,  # never; BackupNotVerified compares with it
        "backup_size_bytes": manifest.size,
        "backup_database_bytes": manifest.database_size,
        "backup_duration_seconds": pytest.approx(sum(manifest.seconds.values())),
    }, "no duration of a verification that there was not"
    mark(room, stem)
    verified = room.backups()[0].verified
    newer = room.dump()
    for backup, durations in ((stem, {"backup_verify_duration_seconds": 1.0}), (newer, {})):
        posted.clear()
        room.step("report", "--database", "shop", "--backup", backup, MLOPS_PUSHGATEWAY_URL=url)
        found = figures(posted[path])
        assert found["backup_last_verified_timestamp_seconds"] == pytest.approx(verified.at)
        assert {name: value for name, value in found.items() if "verify" in name} == durations


def test_a_pushgateway_that_is_away(room):
    room.create()
    room.dump()
    done = room.step("report", "--database", "shop", MLOPS_PUSHGATEWAY_URL=f"http://127.0.0.1:{free_port()}")
    assert done.code == 1
    assert "start it or correct MLOPS_PUSHGATEWAY_URL" in done.error


def test_a_backup_that_is_not_there(room):
    room.create()
    done = room.step("report", "--database", "shop", "--backup", "7")
    assert done.code == 2
    assert "has no backup '7' of 'shop'" in done.error
    assert "include.backup.dump" in done.error
