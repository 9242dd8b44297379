"""Asking the model API until it answers: what it cannot score is told apart from when it cannot."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from include.fraud.online import EPOCH, Transaction
from include.streaming import messages, metrics
from include.streaming.connection import Connection, Unanswered
from include.streaming.messages import Answer, DeadLetter

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 3.0
CONDEMNING = (413, 422)  # what the API says of rows; any other status is its own trouble, or a wrong address
FAILED = 500  # its own trouble, or a row on which the model fails
MOST_FAILURES = 5  # of one row alone, while the API scores another


class Row(NamedTuple):
    """A transaction to score, with the bytes it came as."""

    transaction: Transaction
    value: bytes


class Health:
    """Whether the API answers, as seen by all connections together. Its changes are logged, not its state."""

    def __init__(self) -> None:
        self.up: bool | None = None  # nobody has asked yet
        self._changed = time.monotonic()

    def answered(self) -> None:
        """A request got its predictions."""
        self._now(True, "the model API answers")

    def failed(self, why: str) -> None:
        """A request did not, through no fault of its rows."""
        self._now(False, f"the model API is away ({why}); waiting for it, nothing is skipped")

    def _now(self, up: bool, what: str) -> None:
        if up == self.up:
            return
        lasted = "" if self.up is None else f", after {time.monotonic() - self._changed:.1f} s"
        log.log(logging.INFO if up else logging.WARNING, "%s%s", what, lasted)
        self.up, self._changed = up, time.monotonic()
        metrics.API_UP.set(up)


async def outcomes(
    connection: Connection, health: Health, rows: Sequence[Row]
) -> AsyncIterator[tuple[int, Answer | DeadLetter]]:
    """The number of each row and what became of it, as soon as that is known; waits for as long as the API is away.

    A request that is refused because of a row, or fails, is asked again in halves, until that row stands alone.
    """
    pending = [list(range(len(rows)))]
    failures = 0  # of the one row at the end of `pending`, while the API is well
    waits = 0
    while pending:
        asked = pending[-1]
        status, text, answers = await _ask(connection, [rows[number] for number in asked])
        if answers is not None:
            health.answered()
            pending.pop()
            failures = waits = 0
            for number, answer in zip(asked, answers, strict=True):
                yield number, answer
        elif status in (*CONDEMNING, FAILED) and len(asked) > 1:
            pending[-1:] = [asked[len(asked) // 2 :], asked[: len(asked) // 2]]
        elif status in CONDEMNING or failures == MOST_FAILURES:
            reason = messages.REFUSED if status in CONDEMNING else messages.FAILED
            yield asked[0], DeadLetter(reason, text[: messages.MOST_ERROR])
            pending.pop()
            failures = waits = 0
        else:
            if status == FAILED and await _works(connection):
                failures += 1
            else:
                failures = 0
                health.failed(text)
            metrics.RETRIES.labels("request").inc()
            await asyncio.sleep(wait_seconds(waits))
            waits += 1


async def _works(connection: Connection) -> bool:
    """Whether the API scores a transaction of nobody, which leaves no trace: ids below zero have no history to grow."""
    nobody = Transaction(-1, EPOCH, -1, -1, 0.0)
    return (await _ask(connection, [Row(nobody, msgspec.json.encode(nobody))]))[2] is not None


def wait_seconds(tries: int) -> float:
    """How long to wait after so many tries: twice as long each time, up to a limit, and not all at once."""
    return min(FIRST_WAIT_SECONDS * 2 ** min(tries, 16), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311


async def _ask(connection: Connection, rows: Sequence[Row]) -> tuple[int, str, list[Answer] | None]:
    """Status (0: none), what is said instead of predictions, and the predictions."""
    metrics.BATCH_ROWS.observe(len(rows))
    began = time.monotonic()
    try:
        status, body = await connection.post(messages.request([row.value for row in rows]))
    except Unanswered as error:
        return 0, str(error), None
    metrics.REQUEST_SECONDS.observe(time.monotonic() - began)
    if status != 200:
        return status, f"status {status}: {body[: messages.MOST_ERROR].decode('utf-8', 'replace')}", None
    try:
        return status, "", messages.answers(body, [row.transaction for row in rows])
    except ValueError as error:
        return status, str(error), None
