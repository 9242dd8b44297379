"""Customers of an exercise leave next to nothing in Redis, and no real customer pays for it."""

import httpx
import pytest

from include.fraud import event_log, online
from include.serving import load_features
from include.serving.redis_layout import key
from tests.integration.serving.conftest import AS_OF, transaction, wait_for

REAL = 5
MADE_UP = online.EXERCISE_IDS + 7
EVENTS = 20


@pytest.fixture
def loaded(redis_server, lake_of_the_test):
    load_features.load(redis_server.client, event_log.histories(AS_OF, AS_OF), AS_OF)
    return redis_server


def ask(replica, customer: int, first_id: int) -> None:
    for number in range(EVENTS):
        body = transaction(
            transaction_id=first_id + number, customer_id=customer, terminal_id=7, tx_datetime="2025-06-30T12:00:00Z"
        )
        with replica.client() as client:
            assert client.post("/predict", json=body).status_code == 200


def test_of_an_exercise_only_the_newest_event_stays_and_only_for_a_minute(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    before = len(loaded.client.get(key("customer", REAL)))
    ask(replica, MADE_UP, online.EXERCISE_IDS)
    ask(replica, REAL, 10**9)
    kept = loaded.client.get(key("customer", MADE_UP))
    assert len(kept) == online.EVENT_BYTES
    assert int.from_bytes(kept[8:16], "little") == online.EXERCISE_IDS + EVENTS - 1
    assert 0 < loaded.client.ttl(key("customer", MADE_UP)) <= 60
    assert len(loaded.client.get(key("customer", REAL))) == before + EVENTS * online.EVENT_BYTES


def test_while_redis_is_away_only_real_events_are_kept_for_it(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    before = len(loaded.client.get(key("customer", REAL)))
    loaded.kill()
    ask(replica, MADE_UP, online.EXERCISE_IDS)
    ask(replica, REAL, 10**9)
    loaded.start()
    ready = f"{replica.url}/ready"
    wait_for(lambda: httpx.get(ready, trust_env=False).json()["features"] == "online", "recovery", seconds=5)
    assert loaded.client.get(key("customer", MADE_UP)) is None
    assert len(loaded.client.get(key("customer", REAL))) == before + EVENTS * online.EVENT_BYTES
