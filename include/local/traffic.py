"""A client that goes on sending transactions to the model API while things happen to it.

Open loop: every request is due at its time, whether the ones before were answered or not, and its latency counts from
then. Most go over connections that stay open, some over new ones: a rollout must not lose either.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

NEW_CONNECTION_EVERY = 5
TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 0.5


@dataclass
class Sent:
    """What became of the requests."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests without the answer 200."""
        return self.failures.total()

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the answers came; nan without any."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Traffic:
    """Requests at a steady rate, from the moment the service is ready until `stop`."""

    def __init__(self, url: str, requests: Iterable[Mapping[str, Any]], per_second: float) -> None:
        self.sent = Sent()
        self._url = url
        self._requests = itertools.cycle(requests)
        self._interval = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> Sent:
        """Send no more, wait for the answers that are due, and tell what became of all."""
        self._stop.set()
        self._thread.join()
        return self.sent

    async def _send(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=8)
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits, trust_env=False) as kept:
            if not await self._ready(kept):
                return
            began = time.monotonic()
            under_way = set()
            for number, request in enumerate(self._requests):
                due = began + number * self._interval
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    break
                task = asyncio.create_task(
                    self._one(None if number % NEW_CONNECTION_EVERY == 0 else kept, request, due)
                )
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _ready(self, client: httpx.AsyncClient) -> bool:
        while not self._stop.is_set():
            try:
                if (await client.get(f"{self._url}/ready")).status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _one(self, client: httpx.AsyncClient | None, request: Mapping[str, Any], due: float) -> None:
        self.sent.requests += 1
        try:
            if client:
                answer = await client.post(f"{self._url}/predict", json=request)
            else:
                async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as fresh:
                    answer = await fresh.post(f"{self._url}/predict", json=request)
        except httpx.TransportError as error:
            self.sent.failures[type(error).__name__] += 1
            return
        if answer.status_code != 200:
            self.sent.failures[f"status {answer.status_code}"] += 1
            return
        said = answer.json()
        self.sent.seconds.append(time.monotonic() - due)
        self.sent.versions[said["model_version"]] += 1
        self.sent.degraded += said["degraded"]
