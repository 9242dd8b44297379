"""Redis goes away, comes back, loses all or some: the service goes on, says so, and is whole again by itself."""

import json
import threading
import time

import numpy as np
import pytest

from include.fraud import event_log
from include.model_package import MANIFEST
from include.serving import load_features
from include.serving.redis_layout import key
from tests.integration.serving.conftest import AS_OF, transaction, wait_for

NOW = "2025-06-30T12:00:00Z"  # the day after the last one that is loaded
KNOWN = 5  # a customer with transactions in the last days
NOBODY = 4_000_000


@pytest.fixture
def loaded(redis_server, lake_of_the_test):
    load(redis_server)
    return redis_server


def load(server) -> None:
    load_features.load(server.client, event_log.histories(AS_OF, AS_OF), AS_OF)


def request(number: int, **changed: object) -> dict[str, object]:
    return transaction(transaction_id=10**9 + number, tx_datetime=NOW, customer_id=KNOWN, terminal_id=7) | changed


def ask(replica, *requests: dict[str, object]) -> list[dict]:
    with replica.client() as client:
        answer = client.post("/predict?explain=true", json=list(requests))
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask_one(replica, number: int, **changed: object) -> dict:
    return ask(replica, request(number, **changed))[0]


def features(replica) -> str:
    with replica.client() as client:
        answer = client.get("/ready")
    assert answer.status_code == 200
    return answer.json()["features"]


def in_window(answer: dict) -> float:
    return answer["inputs"]["customer_nb_tx_7d"]


def test_redis_is_killed_and_comes_back(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    first = ask_one(replica, 1)
    assert not first["degraded"]
    assert in_window(first) > 1  # itself and some that were loaded
    loaded.kill()
    for number in (2, 3, 4):
        answer = ask_one(replica, number)
        assert answer["degraded"]
        assert in_window(answer) == in_window(first)  # the snapshot's, and itself
    assert features(replica) == "degraded"
    assert replica.metric("ml_features_degraded_total", reason="redis_down") == 3
    loaded.start()
    wait_for(lambda: features(replica) == "online", "recovery", seconds=5)
    answers = [ask_one(replica, number) for number in (5, 3, 6)]
    assert not any(answer["degraded"] for answer in answers)
    assert [in_window(answer) - in_window(first) for answer in answers] == [4, 2, 5]  # 3 counts once, in its place
    assert replica.metric("ml_features_degraded_total") == 3
    assert replica.metric("ml_features_unsaved_dropped_total") == 0


def test_redis_is_away_at_the_start(loaded, serve, packed):
    loaded.kill()
    replica = serve(packed, loaded.url)
    assert ask_one(replica, 1)["degraded"]
    loaded.start()
    wait_for(lambda: features(replica) == "online", "recovery", seconds=5)
    answer = ask_one(replica, 2)
    assert not answer["degraded"]
    assert in_window(answer) == in_window(ask_one(replica, 1)) + 1


def test_redis_hangs(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    first = ask_one(replica, 1)
    loaded.pause()
    began = time.monotonic()
    assert ask_one(replica, 2)["degraded"]
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert ask_one(replica, 3)["degraded"]
    assert time.monotonic() - began < 0.4  # nobody waits for it again
    loaded.resume()
    wait_for(lambda: features(replica) == "online", "recovery", seconds=5)
    answer = ask_one(replica, 4)
    assert not answer["degraded"]
    assert in_window(answer) - in_window(first) == 3


def test_nobody_fails_while_redis_goes_and_comes(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    statuses: list[int] = []
    slowest = 0.0
    stop = threading.Event()

    def send(number: int) -> None:
        nonlocal slowest
        with replica.client() as client:
            while not stop.is_set():
                began = time.monotonic()
                statuses.append(client.post("/predict", json=request(number, customer_id=number)).status_code)
                slowest = max(slowest, time.monotonic() - began)
                number += 8

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.5)
        loaded.kill()
        time.sleep(0.5)
        loaded.start()
    wait_for(lambda: features(replica) == "online", "recovery", seconds=5)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 100
    assert slowest < 2
    assert replica.metric("ml_features_degraded_total", reason="redis_down") > 0
    assert not ask_one(replica, 1)["degraded"]


def test_all_is_lost_and_loaded_again(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    first = ask_one(replica, 1)
    loaded.client.flushall()
    answer = ask_one(replica, 2)
    assert answer["degraded"]
    assert in_window(answer) == in_window(first)
    assert replica.metric("ml_features_degraded_total", reason="not_loaded") == 1
    assert loaded.client.dbsize() == 0  # a history does not begin with its newest event
    load(loaded)
    answer = ask_one(replica, 3)
    assert not answer["degraded"]
    assert in_window(answer) == in_window(first)


@pytest.mark.parametrize("kind", ["customer", "terminal"])
def test_one_history_is_evicted(loaded, serve, packed, kind):
    replica = serve(packed, loaded.url)
    entity = request(0)[f"{kind}_id"]
    before = ask_one(replica, 1)
    loaded.client.delete(key(kind, entity))
    other = {"customer_id": 6, "terminal_id": 8}
    hit, spared = ask(replica, request(1), request(2, **other))
    assert (hit["degraded"], spared["degraded"]) == (True, False)
    assert hit["inputs"] == before["inputs"]  # the snapshot knows as much
    assert replica.metric("ml_features_degraded_total", reason="evicted") == 1
    assert replica.metric("ml_features_degraded_total") == 1
    assert loaded.client.exists(key(kind, entity)) == 0  # a history does not begin with its newest event
    assert features(replica) == "online"
    load(loaded)
    assert not ask_one(replica, 3)["degraded"]


def test_who_is_new_is_not_degraded(loaded, serve, packed):
    replica = serve(packed, loaded.url)
    answers = [ask_one(replica, number, customer_id=NOBODY, terminal_id=NOBODY) for number in (1, 2)]
    assert not any(answer["degraded"] for answer in answers)
    assert [in_window(answer) for answer in answers] == [1, 2]
    assert loaded.client.ttl(key("customer", NOBODY)) > 0


def test_without_redis(serve, packed):
    replica = serve(packed, "")
    assert features(replica) == "degraded"
    known, unknown = ask(replica, request(1), request(2, customer_id=NOBODY, terminal_id=NOBODY))
    assert (known["degraded"], unknown["degraded"]) == (True, True)
    assert in_window(known) > 1
    assert replica.metric("ml_features_degraded_total", reason="redis_down") == 2


@pytest.mark.parametrize(("password", "expected"), [("right", "online"), ("wrong", "degraded"), ("", "degraded")])
def test_password(loaded, serve, packed, password, expected):
    loaded.client.config_set("requirepass", "right")
    replica = serve(packed, loaded.url, MLOPS_REDIS_PASSWORD=password)
    assert features(replica) == expected
    assert ask_one(replica, 1)["degraded"] == (expected == "degraded")
    assert "right" not in replica.log.read_text()
    loaded.client.config_set("requirepass", "")


@pytest.mark.parametrize("redis", ["up", "down"])
def test_golden_requests(loaded, serve, packed, redis):
    golden = json.loads((packed / MANIFEST).read_text())["golden"]
    replica = serve(packed, loaded.url)
    if redis == "down":
        loaded.kill()
    else:
        before = loaded.client.execute_command("DEBUG", "DIGEST")
    for _ in range(2):
        answers = ask(replica, *(one["request"] for one in golden))
        assert not any(answer["degraded"] for answer in answers)
        got = [answer["probability"] for answer in answers]
        np.testing.assert_allclose(got, [one["probability"] for one in golden], rtol=0, atol=1e-5)
        inputs = [list(answer["inputs"].values()) for answer in answers]
        np.testing.assert_allclose(inputs, [one["features"] for one in golden], rtol=0, atol=1e-9)
    assert len({round(probability, 6) for probability in got}) > 3
    if redis == "down":
        loaded.start()
        time.sleep(1)
    else:
        assert loaded.client.execute_command("DEBUG", "DIGEST") == before
    assert loaded.client.keys("*:-*") == []
