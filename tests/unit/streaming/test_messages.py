"""One message: to a transaction or a dead letter, and to what is written."""

import json

import pytest

from include.fraud.online import Transaction
from include.streaming import messages
from include.streaming.messages import DeadLetter

GOOD = {
    "transaction_id": 1,
    "tx_datetime": "2025-07-01T12:34:56Z",
    "customer_id": 596,
    "terminal_id": 3156,
    "tx_amount": 57.16,
}
ANSWER = {"transaction_id": 1, "probability": 0.7, "decision": "review", "model_version": "3", "degraded": False}


def encoded(**changed: object) -> bytes:
    return json.dumps(GOOD | changed).encode()


def test_a_good_message_becomes_a_prediction():
    transaction = messages.read(encoded())
    assert isinstance(transaction, Transaction)
    (answer,) = messages.answers(json.dumps([ANSWER]).encode(), [transaction])
    key, value = messages.prediction(transaction, answer)
    assert key == b"1"
    told = json.loads(value)
    assert told.pop("scored_at")
    assert told == ANSWER | {"customer_id": 596}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "invalid"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b"[" + encoded() + b"]", "invalid"),
        (encoded(more=1), "invalid"),
        (encoded(tx_amount=1.005), "invalid"),
        (encoded(tx_amount=float("nan")), "not_json"),
        (encoded(tx_datetime="2025-07-01T12:34:56"), "invalid"),
        (encoded(tx_datetime="1969-07-01T12:34:56Z"), "invalid"),
        (encoded(customer_id="596"), "invalid"),
        (encoded(transaction_id=2**63), "invalid"),
    ],
)
def test_a_bad_message_is_a_dead_letter(value, reason):
    dead = messages.read(value)
    assert isinstance(dead, DeadLetter)
    assert dead.reason == reason
    assert dead.error
    name, content = messages.error_header(dead)
    assert (name, content.split(b":")[0].decode()) == ("error", reason)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", json.dumps([ANSWER, ANSWER]), json.dumps([ANSWER | {"transaction_id": 2}])]
)
def test_an_answer_about_something_else_is_no_answer(body):
    with pytest.raises(ValueError, match="predictions"):
        messages.answers(body if isinstance(body, bytes) else body.encode(), [messages.read(encoded())])


def test_source_says_where_it_was():
    assert messages.source("transactions-input", 3, 17) == ("source", b"transactions-input/3/17")
