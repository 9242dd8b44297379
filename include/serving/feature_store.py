"""Histories for scoring: from Redis, and from the version's snapshot where Redis has none."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from include.fraud import online
from include.fraud.online import GROWING, KINDS, NO_EVENTS, Transaction
from include.serving import metrics
from include.serving.redis_layout import ANSWER_SECONDS, CONNECT_SECONDS, KEEP_SECONDS, MARK, UNREACHABLE, key
from include.serving.snapshot import Snapshot

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 0.5
MOST_UNSAVED = 100_000
FLUSH_AT_ONCE = 1_000
EXERCISE_SECONDS = 60
DOWN, NOT_LOADED, EVICTED = "redis_down", "not_loaded", "evicted"

Entity = tuple[str, int]


class Histories(NamedTuple):
    """What is known of each entity, and for which of them the snapshot had to do and why."""

    events: dict[str, dict[int, bytes]]  # kind -> id -> events
    degraded: dict[Entity, str]


class FeatureStore:
    """Redis in front of the snapshot. Events scored while Redis is away are kept here and written when it is back.

    Of a customer who exists in an exercise only the newest event is kept, for a minute: a load test must not fill
    Redis, which would evict the histories of real customers.
    """

    def __init__(self, url: str, password: str | None, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._redis = (
            aioredis.Redis.from_url(
                url,
                password=password or None,
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            if url
            else None
        )
        self._unsaved: deque[tuple[bytes, bytes]] = deque(maxlen=MOST_UNSAVED)
        self._down_since: float | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def reachable(self) -> bool:
        """Whether the last contact with Redis worked."""
        return self._redis is not None and self._down_since is None

    async def start(self) -> None:
        """Make the first contact; Redis may be away."""
        if self._redis is None:
            return
        try:
            await self._redis.ping()
        except UNREACHABLE as error:
            self._lost(error)

    async def histories(self, transactions: Sequence[Transaction]) -> Histories:
        """The histories of everybody who occurs."""
        wanted = {kind: list(dict.fromkeys(one.entity(kind) for one in transactions)) for kind in KINDS}
        found = Histories({kind: {} for kind in KINDS}, {})
        stored, why = await self._stored(wanted)
        for kind, entities in wanted.items():
            for entity in entities:
                events = stored.get((kind, entity))
                if events is None:
                    events = self._from_snapshot(kind, entity, why, found.degraded)
                found.events[kind][entity] = events
        return found

    async def add(self, transactions: Sequence[Transaction], histories: Histories) -> None:
        """Add each transaction to the history that grows by it, unless it is there already."""
        known = histories.events[GROWING]
        new: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        for one in transactions:
            entity = one.entity(GROWING)
            cause = histories.degraded.get((GROWING, entity))
            # A history that Redis lost must not begin again with its newest event, as if that were all.
            if entity < 0 or cause in (NOT_LOADED, EVICTED) or _holds(known[entity], one.transaction_id):
                continue
            new.setdefault((entity, one.transaction_id), (key(GROWING, entity), online.event(one)))
        if not new or self._redis is None:
            return
        if self._down_since is not None:
            self._keep(list(new.values()))
            return
        try:
            await self._append(list(new.values()))
        except UNREACHABLE as error:
            self._keep(list(new.values()))  # may be written twice then: an event counts once all the same
            self._lost(error)

    async def close(self) -> None:
        """Hang up. What Redis has not taken by now is missing there until the next load."""
        if self._watch:
            self._watch.cancel()
        if self._unsaved:
            log.warning("%d scored events were not written: Redis was away to the end", len(self._unsaved))
        if self._redis is not None:
            await self._redis.aclose()
        self._snapshot.close()

    async def _stored(self, wanted: dict[str, list[int]]) -> tuple[dict[Entity, bytes | None], str]:
        """What Redis holds, and why the snapshot is asked for the rest."""
        if self._redis is None or self._down_since is not None:
            return {}, DOWN
        asked = [(kind, entity) for kind, entities in wanted.items() for entity in entities if entity >= 0]
        try:
            mark, *found = cast(list[bytes | None], await self._redis.mget([MARK, *(key(*one) for one in asked)]))
        except UNREACHABLE as error:
            self._lost(error)
            return {}, DOWN
        if mark is None:
            return {}, NOT_LOADED
        return dict(zip(asked, found, strict=True)), EVICTED

    def _from_snapshot(self, kind: str, entity: int, why: str, degraded: dict[Entity, str]) -> bytes:
        events = self._snapshot.history(kind, entity)
        if entity < 0:  # a golden request: the snapshot is its home
            return events or NO_EVENTS
        # Who is in neither is new, which is no loss; unless nothing was asked but the snapshot.
        if events is not None or why != EVICTED:
            degraded[kind, entity] = why
        return events or NO_EVENTS

    async def _append(self, new: list[tuple[bytes, bytes]]) -> None:
        assert self._redis is not None
        pipeline = self._redis.pipeline(transaction=False)
        for name, event in new:
            if _is_exercise(name):
                pipeline.set(name, event, ex=EXERCISE_SECONDS)
            else:
                pipeline.append(name, event)
                pipeline.expire(name, KEEP_SECONDS)
        await pipeline.execute()

    def _keep(self, new: list[tuple[bytes, bytes]]) -> None:
        new = [one for one in new if not _is_exercise(one[0])]
        too_many = len(self._unsaved) + len(new) - MOST_UNSAVED
        if too_many > 0:
            metrics.UNSAVED_DROPPED.inc(too_many)
        self._unsaved.extend(new)

    def _lost(self, error: BaseException) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning("Redis is away (%s): the version's snapshot serves until it is back", error)
            self._watch = asyncio.create_task(self._wait_until_back())

    async def _wait_until_back(self) -> None:
        assert self._redis is not None
        while True:
            await asyncio.sleep(TRY_AGAIN_SECONDS)
            try:
                await self._redis.ping()
                while self._unsaved:  # nothing may be awaited between the last of them and being back
                    await self._write_some()
            except UNREACHABLE:
                continue
            break
        log.info("Redis is back after %.1f s", time.monotonic() - (self._down_since or 0))
        self._down_since = None

    async def _write_some(self) -> None:
        """Write the oldest of what is unsaved, or keep it."""
        some = [self._unsaved.popleft() for _ in range(min(FLUSH_AT_ONCE, len(self._unsaved)))]
        try:
            await self._append(some)
        except UNREACHABLE:
            self._unsaved.extendleft(reversed(some[: MOST_UNSAVED - len(self._unsaved)]))
            raise


def _is_exercise(name: bytes) -> bool:
    return int(name.rpartition(b":")[2]) >= online.EXERCISE_IDS


def _holds(events: bytes, transaction_id: int) -> bool:
    """Whether the transaction is one of the packed events."""
    wanted = transaction_id.to_bytes(8, "little", signed=True)
    at = events.find(wanted)
    while at >= 0 and at % online.EVENT_BYTES != 8:
        at = events.find(wanted, at + 1)
    return at >= 0
