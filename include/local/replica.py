"""One replica: a pod of one container. Its process is started again when it dies, its probes decide what it is.

As the kubelet does it: a model folder first (init container), then the process; it is alive once `/health` answers,
ready while `/ready` does, ended and started again when `/health` fails too often. Restarts wait longer each time.
"""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from include.local import replica_child
from include.local.replica_models import FetchFailed, ModelFolders
from include.local.state import any_free_port

Command = Callable[[Path, int, int], Sequence[str]]


@dataclass(frozen=True)
class Timing:
    """Seconds and counts, as the chart's probes, the kubelet and the autoscaler have them."""

    starting: float = 0.25  # between two looks at a replica that is not ready; the kubelet would wait 1 s
    ready_period: float = 1.0
    health_period: float = 5.0
    timeout: float = 5.0
    failures: int = 3  # in a row, until an answer is believed to be gone
    start_limit: float = 120.0  # until the first answer of /health
    grace: float = 30.0
    backoff_first: float = 10.0
    backoff_most: float = 300.0
    backoff_reset: float = 600.0  # a process that lived this long begins anew
    autoscale: float = 15.0


def backoff(crashes: int, timing: Timing) -> float:
    """How long to wait before the next start, after so many crashes in a row: nothing, 10 s, 20 s, 40 s … 300 s."""
    if crashes <= 1:
        return 0.0
    return min(timing.backoff_first * 2.0 ** (crashes - 2), timing.backoff_most)


@dataclass(frozen=True)
class Means:
    """What all replicas are made with."""

    fd: int  # the listening socket, which their processes inherit
    models: ModelFolders
    command: Command  # (model folder, fd, probe port) to the arguments of a process
    timing: Timing
    ports: set[int] = field(default_factory=set)  # their probe ports: one that only starts does not listen yet


class Replica:
    """One replica of one version. `client` asks its probes."""

    def __init__(self, name: str, version: str, means: Means, client: httpx.AsyncClient) -> None:
        self.name, self.version = name, version
        self.pid: int | None = None
        self.probe_port: int | None = None
        self.started_at: float | None = None  # wall clock
        self.ready_since: float | None = None  # monotonic; None while it is not ready
        self.restarts = 0
        self.stopping = False
        self._trouble = ""  # why it is not what it should be; empty once it is ready
        self._stage = ""
        self._means, self._timing, self._client = means, means.timing, client
        self._task = asyncio.create_task(self._live(), name=name)

    @property
    def ready(self) -> bool:
        """Whether it serves and is to go on serving."""
        return self.ready_since is not None and not self.stopping

    @property
    def message(self) -> str:
        """What keeps it from being ready; empty when it is."""
        return "; ".join(each for each in (self._trouble, self._stage) if each)

    def stop(self) -> None:
        """Begin to end it: SIGTERM, and SIGKILL after the grace period."""
        if not self.stopping:
            self.stopping = True
            self._task.cancel()

    def gone(self) -> bool:
        """Whether it has ended for good, after `stop`. Raises what broke it, should it have broken by itself."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        return self._task.done()

    async def wait_gone(self) -> None:
        """Wait until it has ended for good."""
        await asyncio.wait([self._task])

    async def _live(self) -> None:
        crashes = 0
        while True:
            began = time.monotonic()
            self._stage = "its model is being fetched"
            try:
                self._trouble = await self._run_once(await self._means.models.folder(self.version))
                self.restarts += 1
            except (FetchFailed, OSError) as error:
                self._trouble = str(error)
            lived = time.monotonic() - began
            crashes = 1 if lived > self._timing.backoff_reset else crashes + 1
            pause = backoff(crashes, self._timing)
            self._stage = f"next start in {pause:.0f} s"
            print(f"{self.name}: {self.message}", flush=True)
            await asyncio.sleep(pause)

    async def _run_once(self, folder: Path) -> str:
        """Run its process until it ends or has to be ended; return why."""
        with self._reserved_port() as port:
            argv = self._means.command(folder, self._means.fd, port)
            process = await replica_child.start(argv, pass_fds=[self._means.fd])
            self.pid, self.probe_port, self.started_at = process.pid, port, time.time()
            self._stage = "not ready yet"
            return await self._follow(process, port)

    @contextmanager
    def _reserved_port(self) -> Iterator[int]:
        port = any_free_port(taken=self._means.ports)
        self._means.ports.add(port)
        try:
            yield port
        finally:
            self._means.ports.remove(port)

    async def _follow(self, process: Process, port: int) -> str:
        """Return why the process has ended or was ended."""
        exited = asyncio.create_task(process.wait())
        watch = asyncio.create_task(self._watch(f"http://127.0.0.1:{port}"))
        try:
            await asyncio.wait([exited, watch], return_when=asyncio.FIRST_COMPLETED)
            return f"ended by itself with {_code(process)}" if exited.done() else watch.result()
        finally:
            watch.cancel()
            await asyncio.wait([watch])  # else its last answer could come after the next line
            self.ready_since = None
            await replica_child.end(process, self._timing.grace)
            self.pid = self.probe_port = None

    async def _watch(self, address: str) -> str:
        """Follow the probes; return why it has to be ended."""
        began = time.monotonic()
        while not await self._answers(f"{address}/health"):
            if time.monotonic() - began > self._timing.start_limit:
                return f"no answer of /health within {self._timing.start_limit:.0f} s after the start"
            await asyncio.sleep(self._timing.starting)
        readiness = asyncio.create_task(self._follow_readiness(f"{address}/ready"))
        try:
            await self._until_unhealthy(f"{address}/health")
        finally:
            readiness.cancel()
        return f"/health failed {self._timing.failures} times in a row"

    async def _follow_readiness(self, url: str) -> None:
        failures = 0
        while True:
            if await self._answers(url):
                failures = 0
                if self.ready_since is None:
                    self.ready_since, self._trouble, self._stage = time.monotonic(), "", ""
            else:
                failures += 1
                if self.ready_since is not None and failures >= self._timing.failures:
                    self.ready_since, self._stage = None, "not ready any more"
            await asyncio.sleep(self._timing.starting if self.ready_since is None else self._timing.ready_period)

    async def _until_unhealthy(self, url: str) -> None:
        failures = 0
        while failures < self._timing.failures:
            await asyncio.sleep(self._timing.health_period)
            failures = 0 if await self._answers(url) else failures + 1

    async def _answers(self, url: str) -> bool:
        try:
            async with asyncio.timeout(self._timing.timeout):
                return (await self._client.get(url)).is_success
        except (httpx.HTTPError, OSError, TimeoutError):
            return False


def _code(process: Process) -> str:
    code = process.returncode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
