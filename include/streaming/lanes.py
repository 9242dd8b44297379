"""Lanes to the model API: a customer's transactions all take the same one, and each has one request on its way.

So they are scored in their order, and what arrives while a lane waits for an answer is its next batch: nobody waits for
a timer, and the slower the API, the larger (and cheaper) the batches.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from include.streaming.connection import Address, Connection
from include.streaming.messages import Answer, DeadLetter
from include.streaming.model_api import Health, Row, outcomes


class Job(NamedTuple):
    """A row, whether it is still wanted, and who is told what became of it (None: it was no longer wanted)."""

    row: Row
    wanted: Callable[[], bool]
    done: Callable[[Answer | DeadLetter | None], None]


class Lanes:
    """As many requests at once as there are lanes."""

    def __init__(
        self, address: Address, health: Health, lanes: int, batch: int, failed: Callable[[BaseException], None]
    ) -> None:
        """`failed` is told when a lane can do no more, which would be an error of ours."""
        self._lanes = [_Lane(address, health, batch, failed) for _ in range(lanes)]

    def put(self, job: Job) -> None:
        """Have it scored."""
        number = hash((job.row.transaction.customer_id,)) % len(self._lanes)  # not the id itself: they come in steps
        self._lanes[number].put(job)

    def close(self) -> None:
        """Stop; what is not scored by now will not be."""
        for lane in self._lanes:
            lane.close()


class _Lane:
    def __init__(self, address: Address, health: Health, batch: int, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._connection = Connection(address)
        self._health = health
        self._batch = batch
        self._waiting: deque[Job] = deque()
        self._working: asyncio.Task[None] | None = None

    def put(self, job: Job) -> None:
        self._waiting.append(job)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
            self._working.add_done_callback(self._ended)

    def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
        self._connection.close()

    async def _work(self) -> None:
        while batch := self._take():
            async for number, outcome in outcomes(self._connection, self._health, [job.row for job in batch]):
                batch[number].done(outcome)
        self._working = None

    def _ended(self, working: "asyncio.Task[None]") -> None:
        if not working.cancelled() and (error := working.exception()) is not None:
            self._failed(error)

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        while self._waiting and len(batch) < self._batch:
            job = self._waiting.popleft()
            if job.wanted():
                batch.append(job)
            else:
                job.done(None)
        return batch
