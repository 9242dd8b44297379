"""A stand-in for one replica of the model API: ``stand_in_replica.py MODEL_DIR FD PROBE_PORT``.

Real sockets, no model: it keeps the API's contract for /health, /ready, SIGTERM and the shared socket, and its model
folder can tell it to misbehave (file `behaviour`): `never-ready`, or `crash`. GET /wedge blocks it for good,
/burn keeps a core busy, after /sicken and until /cure it is not ready.
"""

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path

DRAIN_SECONDS = 0.6
ANSWER_SECONDS = 0.005


class StandIn:
    def __init__(self, folder: Path):
        self.version = folder.name
        self.ready = False
        self.draining = asyncio.Event()
        self.connections: set[asyncio.StreamWriter] = set()
        self.busy: set[asyncio.StreamWriter] = set()

    async def answer(self, reader, writer):
        self.connections.add(writer)
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                self.busy.add(writer)
                status, body = await self.page(request.split()[1].decode())
                close = b"Connection: close\r\n" if self.draining.is_set() else b""
                head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), close)
                writer.write(head + body)
                await writer.drain()
                self.busy.discard(writer)
                if close:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.busy.discard(writer)
            self.connections.discard(writer)
            writer.close()

    async def page(self, path):
        if path == "/health":
            return 200, b"alive"
        if path == "/ready":
            return (200 if self.ready and not self.draining.is_set() else 503), b""
        if path == "/wedge":
            time.sleep(3600)
        if path in ("/sicken", "/cure"):
            self.ready = path == "/cure"
        if path == "/burn":
            self.burning = asyncio.create_task(burn())
        await asyncio.sleep(ANSWER_SECONDS)
        return 200, json.dumps({"version": self.version}).encode()


async def burn():
    while True:
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0.001)


async def main(folder, fd, probe_port):
    behaviour = (folder / "behaviour").read_text()
    if behaviour == "crash":
        sys.stderr.write("no usable model\n")
        return 2
    replica = StandIn(folder)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, replica.draining.set)
    await asyncio.start_server(replica.answer, "127.0.0.1", probe_port)
    shared = None
    if behaviour != "never-ready":  # who is not ready does not accept from the socket of all
        shared = await asyncio.start_server(replica.answer, sock=socket.socket(fileno=fd))
        replica.ready = True
    await replica.draining.wait()
    await asyncio.sleep(DRAIN_SECONDS)
    if shared:
        shared.close()
        await asyncio.sleep(0.2)  # for what was accepted a moment before
    while replica.busy:
        await asyncio.sleep(0.01)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
