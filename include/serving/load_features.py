"""Step: write the histories of all customers and terminals from the lake to the feature store.

    python -m include.serving.load_features [--last 2018-08-07]

Everything a transaction after the last day can reach is written, so a lost or half-filled store is whole again
afterwards, and running it twice changes nothing. What was scored after that day stays.
"""

import logging
import os
from datetime import date
from typing import Any

import msgspec
import redis
from pydantic import Field

from include.command import BadInput, StepArgs, run
from include.fraud import event_log
from include.progress import track
from include.serving.redis_layout import ANSWER_SECONDS, KEEP_SECONDS, MARK, MERGE, Mark, key
from include.settings import settings

log = logging.getLogger(__name__)

AT_ONCE = 500


class Args(StepArgs):
    """Up to which day."""

    last: date | None = Field(None, description="last UTC day whose transactions are written (default: the newest)")
    as_of: date | None = Field(None, description="day whose labels are the newest written (default: --last)")


def main(args: Args) -> dict[str, Any]:
    """Answer: how many entities and events the store holds now, and the memory it takes."""
    url = settings().redis_url
    if not url:
        raise BadInput("MLOPS_REDIS_URL is empty: name the Redis of the online features, redis://host:6379/0")
    store = redis.Redis.from_url(
        url, password=os.environ.get("MLOPS_REDIS_PASSWORD") or None, socket_timeout=60 * ANSWER_SECONDS
    )
    last = args.last or event_log.newest_day()
    return load(store, event_log.histories(last, args.as_of or last), last)


def load(store: "redis.Redis", histories: event_log.History, last: date) -> dict[str, Any]:
    """Merge the histories into the store, then say so in its mark."""
    merge = store.register_script(MERGE)
    store.script_load(MERGE)
    until, events, later = event_log.end_of(last), 0, 0
    rows = [(kind, *row) for kind, some in histories.items() for row in some]
    for start in track(range(0, len(rows), AT_ONCE), "write histories"):
        pipeline = store.pipeline(transaction=False)
        for kind, entity, packed in rows[start : start + AT_ONCE]:
            merge(keys=[key(kind, entity)], args=[packed, until, KEEP_SECONDS], client=pipeline)
            events += len(packed) // 24
        later += sum(pipeline.execute())
    mark = Mark(str(last), len(rows), events)
    store.set(MARK, msgspec.json.encode(mark))
    memory = store.info("memory")
    log.info("%d histories, %d events; %d events newer than %s were kept", len(rows), events, later, last)
    return {
        "last": str(last),
        "entities": {kind: len(some) for kind, some in histories.items()},
        "events": events,
        "newer_events_kept": later,
        "redis_megabytes": round(memory["used_memory"] / 1e6, 1),
    }


if __name__ == "__main__":
    run(main)
