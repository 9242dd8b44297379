"""Sends prepared requests to an HTTP server over connections that stay open, from a process of its own.

Closed loop: every connection sends its next request when it has its answer; what comes out is the rate. Open loop: each
request has a time at which it is due, whatever became of those before; its latency counts from then, so that a server
that stalls cannot hide it by slowing the client down.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import uvloop

CONNECTIONS = 32
OPEN_CONNECTIONS = 256
LATE_SECONDS = 5.0


class Load(NamedTuple):
    """What came of it: answers other than 200 count as failed, latencies are in seconds."""

    requests: int
    failed: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.failed) / self.seconds


class Connection(asyncio.Protocol):
    """One request at a time; `answered` is told the status of each."""

    def __init__(self, answered: Callable[["Connection", bool], None]) -> None:
        self._answered = answered
        self._buffer = b""
        self._asked = False
        self.due = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember what to send on."""
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due: float) -> None:
        """Send what was due then."""
        self.due, self._asked = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Tell when an answer is complete; all servers here send a content-length."""
        self._buffer += data
        head, end, content = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.lower().index(b"content-length:") + 15
        if len(content) < int(head[at:].partition(b"\r\n")[0]):
            return
        self._buffer, self._asked = b"", False
        self._answered(self, head[9:12] == b"200")

    def connection_lost(self, error: Exception | None) -> None:
        """Count what was asked as failed; an idle connection may be closed."""
        if self._asked:
            self._answered(self, False)


def encode(path: str, bodies: Sequence[bytes]) -> list[bytes]:
    """The bytes of one POST for each body."""
    head = "POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    return [head.format(path, len(body)).encode() + body for body in bodies]


async def closed_loop(port: int, requests: Sequence[bytes], seconds: float) -> Load:
    """As fast as CONNECTIONS get their answers."""
    latencies: list[float] = []
    failed = sent = 0
    running = True

    def send(connection: Connection) -> None:
        nonlocal sent
        connection.send(requests[sent % len(requests)], time.perf_counter())
        sent += 1

    def answered(connection: Connection, good: bool) -> None:
        nonlocal failed
        if not running:
            return
        latencies.append(time.perf_counter() - connection.due)
        failed += not good
        if not connection.transport.is_closing():
            send(connection)

    connections = await _connect(port, CONNECTIONS, answered)
    began = time.perf_counter()
    for connection in connections:
        send(connection)
    await asyncio.sleep(seconds)
    running = False
    return _load(latencies, failed, time.perf_counter() - began)


async def open_loop(port: int, requests: Sequence[bytes], seconds: float, rate: float) -> Load:
    """`rate` requests a second, each due at its time; it waits for one of OPEN_CONNECTIONS to be free."""
    latencies: list[float] = []
    failed = 0
    waiting: deque[tuple[float, bytes]] = deque()

    def answered(connection: Connection, good: bool) -> None:
        nonlocal failed
        latencies.append(time.perf_counter() - connection.due)
        failed += not good
        free.append(connection)

    free = deque(await _connect(port, OPEN_CONNECTIONS, answered))
    began = time.perf_counter()
    total = int(rate * seconds)
    sent = 0
    while len(latencies) < total and time.perf_counter() < began + seconds + LATE_SECONDS:
        now = time.perf_counter()
        while sent < total and began + sent / rate <= now:
            waiting.append((began + sent / rate, requests[sent % len(requests)]))
            sent += 1
        while waiting and free:
            connection = free.popleft()
            if not connection.transport.is_closing():
                due, request = waiting.popleft()
                connection.send(request, due)
        await asyncio.sleep(0)  # timers are too coarse: this core has nothing else to do
    failed += total - len(latencies)
    latencies += [LATE_SECONDS] * (total - len(latencies))
    return _load(latencies, failed, seconds)


async def _connect(port: int, number: int, answered: Callable[[Connection, bool], None]) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(answered), "127.0.0.1", port) for _ in range(number)]
    return [connection for _, connection in made]


def _load(latencies: list[float], failed: int, seconds: float) -> Load:
    ordered = sorted(latencies)
    p50, p99 = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    return Load(len(ordered), failed, seconds, p50, p99)


def main() -> None:
    """Read {"port", "path", "bodies", "seconds", "rate"} from the first argument's file, and print the load."""
    with open(sys.argv[1]) as file:
        asked = json.load(file)
    requests = encode(asked["path"], [body.encode() for body in asked["bodies"]])
    if asked["rate"] is None:
        load = uvloop.run(closed_loop(asked["port"], requests, asked["seconds"]))
    else:
        load = uvloop.run(open_loop(asked["port"], requests, asked["seconds"], asked["rate"]))
    json.dump(load, sys.stdout)
