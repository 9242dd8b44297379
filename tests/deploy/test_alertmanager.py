"""A real Alertmanager with our configuration, and every alert firing at once: the admin is told all the same."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.admin_cases import ADMIN
from tests.deploy.test_routing import ALERTS, CONFIG

Inbox = Queue[dict[str, Any]]


@pytest.fixture
def inbox() -> Iterator[tuple[str, Inbox]]:
    """Address of a webhook, and what it was sent."""
    received: Inbox = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api(alertmanager: str, inbox: tuple[str, Inbox], tmp_path: Path) -> Iterator[str]:
    """Address of a running Alertmanager. Changed in its configuration: webhooks come here, no mail is sent."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for receiver in config["receivers"]:
        receiver.pop("email_configs", None)
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = f"{inbox[0]}/{receiver['name']}"
    config["route"]["routes"][0]["group_wait"] = "1s"
    file = tmp_path / "alertmanager.yaml"
    file.write_text(yaml.safe_dump(config))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    command = [
        alertmanager, f"--config.file={file}", f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until_ready(f"http://{address}", process, tmp_path / "log")
            yield f"http://{address}/api/v2"
        finally:
            process.terminate()


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{address}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"Alertmanager did not start: {log.read_text()}")


@pytest.mark.parametrize("namespace", [{}, {"namespace": "mlops"}], ids=["no namespace", "namespace"])
def test_the_admins_page_arrives_among_all_others(
    api: str, inbox: tuple[str, Inbox], namespace: dict[str, str]
) -> None:
    firing = [{"labels": {"alertname": name, **rule["labels"], **namespace}} for name, rule in ALERTS.items()]
    firing.append({"labels": {"alertname": "Another", "severity": "critical", "team": "admin", **namespace}})
    httpx.post(f"{api}/alerts", json=firing).raise_for_status()

    pages: list[dict[str, Any]] = []
    while not pages or pages[-1]["receiver"] != "admin":  # the heartbeat comes before it
        pages.append(inbox[1].get(timeout=20))
    page = pages[-1]
    state = {each["labels"]["alertname"]: each for each in httpx.get(f"{api}/alerts").json()}
    assert [each["labels"]["alertname"] for each in page["alerts"]] == [ADMIN]
    assert page["alerts"][0]["fingerprint"] == state[ADMIN]["fingerprint"]
    assert set(state) == {*ALERTS, "Another"}
    suppressed = {name for name, each in state.items() if each["status"]["state"] == "suppressed"}
    assert suppressed == {"ModelApiHighCPU"}
