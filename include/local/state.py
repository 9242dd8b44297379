"""What the local stack keeps on disk, all under one folder: ``build/local``, or what MLOPS_STATE names.

state.json        the ports that were chosen
run/<name>.json   who runs: pid, start time, session
events.jsonl      who died and was started again
log/<name>.log    what a process printed; the start before is in <name>.log.1
data/<name>/      what a process stores
lake/             the data lake
"""

import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from include.code_version import ROOT

DEFAULT_PORTS = {
    "airflow": 8080,
    "mlflow": 5000,
    "redis": 6379,
    "model-api": 8000,
    "postgres": 5432,
    "kafka": 9092,
    "kafka-controller": 9094,
    "prometheus": 9090,
    "alertmanager": 9093,
    "pushgateway": 9091,
    "inbox": 8025,
    "inbox-smtp": 2525,
    "scorer": 8010,
    "airflow-worker-logs": 8793,
    "airflow-trigger-logs": 8794,
}


class StackError(Exception):
    """The local stack cannot do what was asked; the message names the value, the rule and the fix."""


class State:
    """The folder of one local stack."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.run = self.root / "run"
        self.log = self.root / "log"
        self.lake = self.root / "lake"

    @classmethod
    def from_environment(cls) -> "State":
        """The stack that the commands work on."""
        return cls(Path(os.environ.get("MLOPS_STATE") or ROOT / "build" / "local"))

    def data(self, name: str) -> Path:
        """The folder in which `name` stores what it has to keep."""
        folder = self.root / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def ports(self) -> dict[str, int]:
        """The ports chosen before; empty for a stack that never started."""
        try:
            saved: dict[str, int] = json.loads((self.root / "state.json").read_text())["ports"]
        except FileNotFoundError:
            return {}
        return saved

    def choose_ports(self, keep: bool) -> dict[str, int]:
        """A free port for every name: the one it had, else its default, else any; remembered for the next start.

        :param keep: part of the stack runs, so the ports it has are its own
        """
        saved = self.ports()
        chosen = dict(saved) if keep else {}
        for name, default in DEFAULT_PORTS.items():
            if name not in chosen:
                chosen[name] = _pick((saved.get(name, default), default), taken=set(chosen.values()))
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "state.json").write_text(json.dumps({"ports": chosen}, indent=2) + "\n")
        return chosen

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Two commands must not start or stop the same stack at once; the second waits up to `patience` seconds."""
        self.root.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + patience
        with (self.root / "lock").open("w") as file:
            while not _takes(file):
                if time.monotonic() >= deadline:
                    raise StackError(
                        f"another command is starting or stopping the stack in {self.root}; wait until it has ended"
                    )
                time.sleep(0.2)
            yield


def _takes(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pick(wanted: Iterable[int], taken: Container[int]) -> int:
    for port in wanted:
        if port not in taken and _is_free(port):
            return port
    return any_free_port(taken)


def any_free_port(taken: Container[int]) -> int:
    """A port of this machine that nobody listens on, and that is not `taken` either."""
    while True:
        port = _any_port()
        if port not in taken and _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port of a stack just stopped counts as free
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _any_port() -> int:
    """Below the ports that outgoing connections get, which could take it before its server does."""
    return random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
