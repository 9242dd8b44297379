"""What one process of the local stack is: how it starts, and how one sees that it serves."""

import hashlib
import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from include.code_version import ROOT

PROBE_SECONDS = 10.0  # an answer on a busy machine took that long; a refused connection answers at once
Say = Callable[[str], None]


def nothing(say: Say) -> None:
    """What most processes need before they start, and once they answer."""


@dataclass(frozen=True)
class Process:
    """One long-running program. `env` is all it adds to the environment that every process gets."""

    name: str
    argv: Sequence[str]
    ready: Callable[[], bool]
    address: str  # what people open, or programs connect to
    port: int | None  # where the answer to `ready` must come from; None: it listens nowhere
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT
    after: Sequence[str] = ()  # names of the processes that must serve before this one starts
    ready_within: float = 120.0
    files: Mapping[Path, str] = field(default_factory=dict)  # its configuration, written before it starts
    # Both run at every start, so they leave alone what is done already.
    prepare: Callable[[Say], None] = nothing  # before it starts
    furnish: Callable[[Say], None] = nothing  # once it answers; it serves when that is done

    def fingerprint(self) -> str:
        """Changes when the process would have to be started anew to be as described."""
        files = {str(path): text for path, text in self.files.items()}
        described = json.dumps([list(self.argv), sorted(self.env.items()), str(self.cwd), sorted(files.items())])
        return hashlib.sha256(described.encode()).hexdigest()[:16]


def answers_http(url: str) -> Callable[[], bool]:
    """Ready when a GET of `url` is answered with 2xx."""

    def probe() -> bool:
        try:
            return httpx.get(url, timeout=PROBE_SECONDS, trust_env=False).is_success
        except httpx.TransportError:
            return False

    return probe


def accepts_tcp(port: int) -> Callable[[], bool]:
    """Ready when a connection to `port` of this machine is accepted."""

    def probe() -> bool:
        with socket.socket() as client:
            client.settimeout(PROBE_SECONDS)
            return client.connect_ex(("127.0.0.1", port)) == 0

    return probe
