"""From raw transactions to predictions, many requests at a time.

While one batch waits for Redis, the requests that arrive meanwhile gather; they are the next batch. So nobody waits for
a timer, and the busier the replica, the larger (and cheaper) its batches.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from include.fraud import online
from include.fraud.online import FEATURES, KINDS, Transaction
from include.serving import metrics
from include.serving.feature_store import FeatureStore, Histories
from include.serving.model import Floats, Model

log = logging.getLogger(__name__)

BATCH_ROWS = 256
QUEUE_ROWS = 2_048  # some tenths of a second of work


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer for one transaction; the model's inputs only for those who ask for them."""

    transaction_id: int
    probability: float
    decision: Literal["accept", "review"]
    model_version: str
    degraded: bool
    inputs: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


class Scored(msgspec.Struct, frozen=True):
    """The inputs and probabilities of a batch, row by row, and which rows are degraded."""

    inputs: Floats  # [rows, n]
    probabilities: Floats  # [rows]
    degraded: list[bool]


class Waiting(NamedTuple):
    """What one request submitted."""

    transactions: Sequence[Transaction]
    explain: bool
    answer: asyncio.Future[list[Prediction]]


class QueueFull(Exception):
    """More transactions wait than may."""


class Scorer:
    """Scores what is submitted, in order, in batches."""

    def __init__(self, model: Model, store: FeatureStore) -> None:
        self.model = model
        self.store = store
        self._queue: deque[Waiting] = deque()
        self._rows = 0
        self._arrived = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take batches from the queue."""
        self._loop = asyncio.create_task(self._forever())

    async def stop(self) -> None:
        """End; nothing may be waiting any more."""
        if self._loop:
            self._loop.cancel()
        await self.store.close()

    async def submit(self, transactions: Sequence[Transaction], explain: bool = False) -> list[Prediction]:
        """The predictions, in the order given; with `explain`, with the inputs of the model. Raises QueueFull."""
        if self._rows and self._rows + len(transactions) > QUEUE_ROWS:
            raise QueueFull
        answer: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(transactions, explain, answer))
        self._count(len(transactions))
        self._arrived.set()
        return await answer

    async def score(self, transactions: Sequence[Transaction]) -> Scored:
        """Score one batch, and add its transactions to their histories."""
        histories = await self.store.histories(transactions)
        inputs = online.inputs(transactions, *(histories.events[kind] for kind in KINDS))
        scored = Scored(inputs, self.model.probabilities(inputs), _degraded(transactions, histories))
        await self.store.add(transactions, histories)
        return scored

    async def _forever(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            transactions = [one for waiting in batch for one in waiting.transactions]
            began = time.perf_counter()
            try:
                scored = await self.score(transactions)
            except Exception as error:
                log.exception("a batch of %d transactions failed", len(transactions))
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            finally:
                self._count(-len(transactions))
            metrics.PREDICTION_SECONDS.observe(time.perf_counter() - began)
            metrics.BATCH_ROWS.observe(len(transactions))
            self._deliver(batch, self._predictions(transactions, scored), scored)

    def _deliver(self, batch: Sequence[Waiting], predictions: list[Prediction], scored: Scored) -> None:
        at = 0
        for waiting in batch:
            own = slice(at, at + len(waiting.transactions))
            at = own.stop
            if waiting.answer.done():  # the client hung up
                continue
            answer = predictions[own]
            if waiting.explain:
                rows = scored.inputs[own].tolist()
                answer = [
                    msgspec.structs.replace(one, inputs=dict(zip(FEATURES, row, strict=True)))
                    for one, row in zip(answer, rows, strict=True)
                ]
            waiting.answer.set_result(answer)

    def _take(self) -> list[Waiting]:
        taken: list[Waiting] = []
        rows = 0
        while self._queue and (not taken or rows + len(self._queue[0].transactions) <= BATCH_ROWS):
            taken.append(self._queue.popleft())
            rows += len(taken[-1].transactions)
        return taken

    def _count(self, rows: int) -> None:
        self._rows += rows
        metrics.QUEUE_ROWS.set(self._rows)

    def _predictions(self, transactions: Sequence[Transaction], scored: Scored) -> list[Prediction]:
        manifest = self.model.manifest
        predictions = []
        for one, probability, degraded in zip(
            transactions, scored.probabilities.tolist(), scored.degraded, strict=True
        ):
            decision: Literal["accept", "review"] = "review" if probability >= manifest.threshold else "accept"
            predictions.append(Prediction(one.transaction_id, probability, decision, manifest.version, degraded))
        reviewed = sum(one.decision == "review" for one in predictions)
        metrics.PREDICTIONS.labels("review").inc(reviewed)
        metrics.PREDICTIONS.labels("accept").inc(len(predictions) - reviewed)
        return predictions


def _degraded(transactions: Sequence[Transaction], histories: Histories) -> list[bool]:
    causes = histories.degraded
    if not causes:
        return [False] * len(transactions)
    flags = []
    for one in transactions:
        found = {cause for kind in KINDS if (cause := causes.get((kind, one.entity(kind))))}
        for cause in found:
            metrics.DEGRADED.labels(cause).inc()
        flags.append(bool(found))
    return flags
