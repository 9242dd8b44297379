"""The whole chain on this machine: real Prometheus, Alertmanager, Pushgateway and inbox, with times of seconds."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from include.local.alertmanager_server import ROUTING, delivered_to_inbox
from tests.integration.alerting.fake_replicas import MOST, FakeReplicas
from tests.integration.alerting.relays import MailRelay, WebhookRelay, wait_until

ROOT = Path(__file__).parents[3]
SCRAPE, HOLD = "1s", "5s"
SHORTER = {"for: 5m": f"for: {HOLD}", "[1m]": "[4s]", "[45s]": "[3s]"}
PROGRAMS = {
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "pushgateway": ("prometheus-pushgateway", "pushgateway"),
}


def program(name: str) -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


_taken: set[int] = set()
_lock = threading.Lock()


def free_ports(count: int) -> list[int]:
    """Ports that nobody else is given: outside the range from which the kernel gives ports to clients."""
    found: list[int] = []
    with _lock:
        while len(found) < count:
            port = random.randrange(10_000, 30_000)
            with socket.socket() as probe:
                if port not in _taken and probe.connect_ex(("127.0.0.1", port)) != 0:
                    _taken.add(port)
                    found.append(port)
    return found


class Chain:
    """All servers of one scenario, on ports and in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("prometheus", "alertmanager", "pushgateway", "inbox", "inbox-smtp", "relay-smtp")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.replicas = FakeReplicas()
        self.webhook = WebhookRelay(self.url("inbox"))
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._write_rules()
        self.alertmanager_config = self._alertmanager_config()
        self._write_configs()
        for name in ("inbox", "pushgateway", "alertmanager", "prometheus"):
            self.start(name)
        self.mail: MailRelay | None = MailRelay(self.ports["relay-smtp"], self.ports["inbox-smtp"])
        known = "model_api:cpu_utilisation:max and on () model_api:replicas_ready == 4"
        wait_until("CPU and replicas are known", lambda: self.query(known), 180)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        """The settings of the steps."""
        own = {f"MLOPS_{name.upper()}_URL": self.url(name) for name in ("prometheus", "alertmanager", "pushgateway")}
        return {**os.environ, **own, "MLOPS_INBOX_URL": self.url("inbox"), "PYTHONPATH": str(ROOT)}

    def step(self, module: str, **flags: Any) -> subprocess.Popen[bytes]:
        """Begin a step; its answer goes to <module>.json."""
        given = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", _flag(value))]
        argv = [
            sys.executable,
            "-m",
            f"include.alerting.{module}",
            *given,
            "--result",
            str(self.folder / f"{module}.json"),
        ]
        log = (self.folder / f"{module}.log").open("wb")
        return subprocess.Popen(argv, env=self.environment(), cwd=ROOT, stderr=log, stdout=log)

    def answer(self, module: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{module}.json").read_text())

    def query(self, expression: str) -> list[Any]:
        answer = httpx.get(f"{self.url('prometheus')}/api/v1/query", params={"query": expression}, trust_env=False)
        return answer.json()["data"]["result"]

    def push(self, path: str, metrics: dict[str, float]) -> None:
        body = "".join(f"{name} {value!r}\n" for name, value in metrics.items())
        httpx.post(f"{self.url('pushgateway')}/metrics/{path}", content=body, trust_env=False).raise_for_status()

    def pushed(self) -> list[str]:
        """Names of what the Pushgateway holds of a drill."""
        text = httpx.get(f"{self.url('pushgateway')}/metrics", trust_env=False).text
        return [line for line in text.splitlines() if line.startswith(("alert_drill_", "attack_"))]

    def post_alert(self, **labels: str) -> None:
        url = f"{self.url('alertmanager')}/api/v2/alerts"
        httpx.post(url, json=[{"labels": labels}], trust_env=False).raise_for_status()

    def silence(self) -> None:
        now = time.time()
        matcher = {"name": "alertname", "value": "AdminNotification.*", "isRegex": True, "isEqual": True}
        moments = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + later)) for later in (0, 3600)]
        body = {"matchers": [matcher], "startsAt": moments[0], "endsAt": moments[1], "createdBy": "x", "comment": "y"}
        httpx.post(f"{self.url('alertmanager')}/api/v2/silences", json=body, trust_env=False).raise_for_status()

    def reload(self, name: str) -> None:
        """Write the configuration again and make the server read it."""
        self._write_configs()
        httpx.post(f"{self.url(name)}/-/reload", trust_env=False).raise_for_status()

    def start(self, name: str) -> None:
        port, data = self.ports[name], self.folder / name
        listen = f"--web.listen-address=127.0.0.1:{port}"
        command = (
            {
                "inbox": [
                    *(sys.executable, "-m", "include.alerting.inbox", "--http-port", str(port)),
                    *("--smtp-port", str(self.ports["inbox-smtp"]), "--folder", str(data)),
                ],
                "pushgateway": [str(program("pushgateway")), listen],
                "alertmanager": [
                    *(str(program("alertmanager")), f"--config.file={self.folder / 'alertmanager.yaml'}"),
                    *(f"--storage.path={data}", listen, "--cluster.listen-address="),
                ],
                "prometheus": [
                    *(str(program("prometheus")), f"--config.file={self.folder / 'prometheus.yaml'}"),
                    *(f"--storage.tsdb.path={data}", listen, "--web.enable-lifecycle"),
                ],
            }[name]
            if name == "inbox" or program(name)
            else []
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, env=self.environment(), cwd=ROOT, stdout=log, stderr=log)
        self._children[name] = child
        probe = f"{self.url(name)}/{'health' if name == 'inbox' else '-/ready'}"
        wait_until(f"{name} serves", lambda: child.poll() is not None or _serves(probe), 180)
        assert child.poll() is None, (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def close(self) -> None:
        for name in list(self._children):
            self.kill(name)
        self.replicas.close()
        self.webhook.close()
        if self.mail:
            self.mail.close()

    def rules(self, **changed: str) -> None:
        """Write the alert rules again, these words replaced."""
        file = self.folder / "alerts.yaml"
        text = file.read_text()
        for old, new in changed.items():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)

    def _write_rules(self) -> None:
        for name in ("alerts.yaml", "recording-local.yaml"):
            text = (ROOT / "deploy/rules" / name).read_text()
            for old, new in SHORTER.items():
                text = text.replace(old, new)
            (self.folder / name).write_text(text)

    def _alertmanager_config(self) -> dict[str, Any]:
        text = delivered_to_inbox(ROUTING.read_text(), self.webhook.port, self.ports["relay-smtp"])
        config = yaml.safe_load(text)
        for route in (config["route"], *config["route"]["routes"]):
            route.update(group_wait="1s", group_interval="3s", repeat_interval="1h")
        return config

    def _write_configs(self) -> None:
        (self.folder / "alertmanager.yaml").write_text(yaml.safe_dump(self.alertmanager_config))
        fake = [
            {"targets": [self.replicas.address], "labels": {"__metrics_path__": f"/{n}", "instance": f"replica-{n}"}}
            for n in range(MOST)
        ]
        bounds = {"targets": [self.replicas.address], "labels": {"__metrics_path__": "/bounds"}}
        config = {
            "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": [str(self.folder / name) for name in ("alerts.yaml", "recording-local.yaml")],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{self.ports['alertmanager']}"]}]}]
            },
            "scrape_configs": [
                {"job_name": "model-api", "static_configs": fake},
                {"job_name": "bounds", "static_configs": [bounds]},
                {
                    "job_name": "pushgateway",
                    "honor_labels": True,
                    "static_configs": [{"targets": [f"127.0.0.1:{self.ports['pushgateway']}"]}],
                },
            ],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))


def _serves(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _flag(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def subject_of_an_earlier_drill() -> bytes:
    """A mail as Alertmanager sent it on another day."""
    name = "AdminNotification_MaxScaleHighCPU"
    return f"Subject: [DRILL] [FIRING] {name} 00c0ffee00c0ffee 2026-11-14T08:00:01.250Z\r\n\r\n-\r\n".encode()
