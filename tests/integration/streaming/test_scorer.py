"""The scorer between a real Kafka and a model API: whatever dies, every message gets its outcome."""

import collections
import json
import random
import time

import httpx
import pytest

from tests.integration.serving.conftest import start_replica, transaction, wait_for
from tests.integration.streaming.conftest import PATIENCE, in_background

UNREADABLE = {
    b"not-json": b"{",
    b"\xff\x00": b"\xff\xfe",
    b"nothing": None,
    b"no-amount": b'{"transaction_id": 1}',
    b"half-cents": json.dumps(transaction(tx_amount=1.005)).encode(),
    None: b"[]",
}


def lag(scorer) -> float:
    return scorer.metric("kafka_consumer_lag", group="scorer")


def test_every_message_gets_its_outcome_and_none_is_read_again(stream, score, real_api):
    stream.send_transactions(range(300))
    for key, value in UNREADABLE.items():
        stream.send(value, key, {"exercise": b"run-1"})
    stream.send(json.dumps(transaction(transaction_id=300)).encode(), b"596", {"exercise": b"run-1", "due": b"17"})
    stream.flush()
    scorer = score(real_api.url).wait_until_ready()
    assert sorted(stream.wait_until_predicted(301)) == list(range(301))
    wait_for(lambda: scorer.metric("scorer_in_flight") == 0, "the last outcome", PATIENCE)
    told = {int(message.key()): message for message in stream.read(stream.predictions)}
    value = json.loads(told[300].value())
    assert value.items() >= {"transaction_id": 300, "customer_id": 596, "model_version": "1"}.items()
    assert 0 <= value["probability"] <= 1
    headers = dict(told[300].headers())
    assert headers.items() >= {"exercise": b"run-1", "due": b"17"}.items()
    assert headers["source"].decode().startswith(f"{stream.input}/")

    dead = stream.read(stream.dead)
    assert {message.key(): message.value() for message in dead} == UNREADABLE
    for message in dead:
        assert dict(message.headers())["exercise"] == b"run-1"
        assert dict(message.headers())["error"].split(b":")[0] in (b"not_json", b"null_value", b"invalid")
    assert scorer.metric("scorer_dead_lettered_total", reason="null_value") == 1
    assert scorer.metric("scorer_consumed_total") == 307
    wait_for(lambda: lag(scorer) == 0, "no lag", PATIENCE)
    assert scorer.terminate() == 0
    assert stream.uncommitted() == 0

    again = score(real_api.url).wait_until_ready()
    stream.send_transactions(range(1000, 1001))
    stream.flush()
    stream.wait_until_predicted(302)
    assert again.metric("scorer_consumed_total") == 1


def test_a_customers_transactions_are_scored_one_after_the_other(stream, score, fake_api):
    fake_api.delay = lambda: random.uniform(0, 0.02)
    stream.send_transactions(range(1500), customers=20)
    stream.flush()
    score(fake_api.url, "--batch", "8").wait_until_ready()
    stream.wait_until_predicted(1500)
    asked = sorted(fake_api.asked, key=lambda one: one[0])
    order, free_at = collections.defaultdict(list), collections.defaultdict(float)
    together = 0
    ended = 0.0
    for began, end, transactions in asked:
        assert len(transactions) <= 8
        for one in transactions:
            order[one["customer_id"]].append(one["transaction_id"])
        for customer in {one["customer_id"] for one in transactions}:
            assert free_at[customer] <= began
            free_at[customer] = end
        together += began < ended
        ended = max(ended, end)
    assert all(ids == sorted(ids) for ids in order.values())
    assert together > len(asked) / 4


def test_one_bad_row_does_not_condemn_those_beside_it(stream, score, fake_api):
    refused, broken = 77, 133

    def status(transactions):
        ids = {one["transaction_id"] for one in transactions}
        return 422 if refused in ids else 500 if broken in ids else 200

    fake_api.status_of = status
    stream.send_transactions(range(200), customers=3)
    stream.flush()
    score(fake_api.url, "--lanes", "2").wait_until_ready()
    assert sorted(stream.wait_until_predicted(198)) == sorted(set(range(200)) - {refused, broken})
    wait_for(lambda: len(stream.read(stream.dead)) == 2, "dead letters", PATIENCE)
    reasons = {
        json.loads(one.value())["transaction_id"]: dict(one.headers())["error"] for one in stream.read(stream.dead)
    }
    assert reasons[refused].startswith(b"api_refused: status 422")
    assert reasons[broken].startswith(b"api_failed: ")


def test_an_api_that_is_away_is_waited_for(stream, score, packed, tmp_path):
    api = start_replica(packed, tmp_path / "api.log")
    scorer = score(api.url).wait_until_ready()
    stream.send_transactions(range(10))
    stream.flush()
    stream.wait_until_predicted(10)
    api.kill()
    stream.send_transactions(range(10, 810))
    stream.flush()
    wait_for(lambda: lag(scorer) == 800, "lag", PATIENCE)
    assert scorer.metric("scorer_api_up") == 0
    again = start_replica(packed, tmp_path / "api-again.log", port=int(api.url.rpartition(":")[2]))
    try:
        assert sorted(stream.wait_until_predicted(810)) == list(range(810))
        wait_for(lambda: lag(scorer) == 0, "no lag", PATIENCE)
    finally:
        again.kill()
    assert scorer.metric("scorer_api_up") == 1
    assert not stream.read(stream.dead)
    assert scorer.log.read_text().count("is away") == 1


@pytest.mark.parametrize("status", [503, 404, 429])
def test_what_the_api_says_of_itself_is_no_verdict_on_rows(status, stream, score, fake_api):
    fake_api.status_of = lambda _: status
    scorer = score(fake_api.url).wait_until_ready()
    stream.send_transactions(range(20))
    stream.flush()
    wait_for(lambda: scorer.metric("scorer_retries_total", what="request") > 5, "attempts", PATIENCE)
    wait_for(lambda: scorer.metric("scorer_in_flight") == 20, "all of them wait", PATIENCE)
    fake_api.status_of = lambda _: 200
    assert sorted(stream.wait_until_predicted(20)) == list(range(20))
    assert not stream.read(stream.dead)


def test_the_buffer_is_bounded_while_the_api_is_away(stream, score, fake_api):
    fake_api.status_of = lambda _: 503
    scorer = score(fake_api.url).wait_until_ready()
    stream.send_transactions(range(8000))
    stream.flush()
    wait_for(lambda: lag(scorer) == 8000, "lag", PATIENCE)
    time.sleep(2)  # it pauses after one
    assert scorer.metric("scorer_consumed_total") == 5000
    fake_api.status_of = lambda _: 200
    assert sorted(stream.wait_until_predicted(8000)) == list(range(8000))


def test_a_broker_killed_while_the_buffer_is_full(stream, score, fake_api):
    """Its partitions are lost while they are paused, and must be read when they come back."""
    fake_api.status_of = lambda _: 503
    scorer = score(fake_api.url).wait_until_ready()
    stream.send_transactions(range(8000))
    stream.flush()
    wait_for(lambda: scorer.metric("scorer_in_flight") == 5000, "a full buffer", PATIENCE)
    time.sleep(2)  # it pauses after one
    stream.broker.kill()
    wait_for(lambda: "gave up partitions" in scorer.log.read_text(), "the loss of its partitions", PATIENCE)
    stream.broker.start()
    fake_api.status_of = lambda _: 200
    assert set(stream.wait_until_predicted(8000)) == set(range(8000))


def test_a_killed_broker_loses_nothing(stream, score, real_api):
    scorer = score(real_api.url).wait_until_ready()
    sending = in_background(stream.send_transactions, range(3000), pause=0.002)
    wait_for(lambda: scorer.metric("scorer_scored_total") > 200, "some of it", PATIENCE)
    stream.broker.kill()
    time.sleep(1)
    stream.broker.start()
    sending.join()
    stream.flush()
    assert len(stream.acked) == 3000
    assert set(stream.wait_until_predicted(3000)) == set(range(3000))
    wait_for(lambda: lag(scorer) == 0, "no lag", PATIENCE)
    wait_for(lambda: stream.uncommitted() == 0, "its commits, once the group is together again", PATIENCE)
    assert scorer.terminate() == 0


def test_a_killed_scorer_loses_nothing(stream, score, fake_api):
    fake_api.delay = lambda: 0.05
    scorer = score(fake_api.url, "--batch", "4").wait_until_ready()
    stream.send_transactions(range(3000))
    stream.flush()
    wait_for(lambda: scorer.metric("scorer_scored_total") > 500, "some of it", PATIENCE)
    scorer.kill()
    fake_api.delay = lambda: 0.0
    score(fake_api.url).wait_until_ready()
    found = stream.wait_until_predicted(3000)
    assert set(found) == set(range(3000))


def test_sigterm_drains_and_commits(stream, score, fake_api):
    fake_api.delay = lambda: 0.05
    scorer = score(fake_api.url, "--batch", "16").wait_until_ready()
    stream.send_transactions(range(2000))
    stream.flush()
    wait_for(lambda: scorer.metric("scorer_scored_total") > 100, "some of it", PATIENCE)
    assert scorer.terminate() == 0
    done = stream.predicted()
    assert stream.uncommitted() == 2000 - len(done)
    fake_api.delay = lambda: 0.0
    score(fake_api.url).wait_until_ready()
    assert sorted(stream.wait_until_predicted(2000)) == list(range(2000))  # none twice


def test_two_scorers_share_the_partitions_and_one_takes_over(stream, score, real_api):
    first = score(real_api.url).wait_until_ready()
    sending = in_background(stream.send_transactions, range(6000), customers=500, pause=0.001)
    second = score(real_api.url).wait_until_ready()
    wait_for(lambda: second.metric("scorer_scored_total") > 100, "a share", PATIENCE)
    partitions = [httpx.get(f"{one.url}/ready", trust_env=False).json()["partitions"] for one in (first, second)]
    assert partitions == [3, 3]
    assert first.terminate() == 0
    sending.join()
    stream.flush()
    assert set(stream.wait_until_predicted(6000)) == set(range(6000))
    wait_for(lambda: lag(second) == 0, "no lag", PATIENCE)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("MLOPS_KAFKA_BOOTSTRAP", "kafka", "is not host:port"),
        ("MLOPS_MODEL_API_URL", "model-api:8000", "is not http://"),
        ("MLOPS_PREDICTIONS_TOPIC", "elsewhere", "python -m include.streaming.topics"),
        ("MLOPS_DEAD_LETTER_TOPIC", "elsewhere", "python -m include.streaming.topics"),
    ],
)
def test_a_wrong_setting_ends_it_with_2(setting, value, said, stream, score):
    scorer = score("http://127.0.0.1:9", **{setting: value})
    assert scorer.process.wait(timeout=PATIENCE) == 2
    assert value in scorer.log.read_text()
    assert said in scorer.log.read_text()
