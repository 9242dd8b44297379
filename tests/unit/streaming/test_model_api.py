"""Whose fault it is when there is no prediction: the row's, or the API's."""

import asyncio
import json

import pytest

from include.command import BadInput
from include.fraud.online import Transaction
from include.streaming import messages, model_api
from include.streaming.connection import Address, Unanswered
from include.streaming.messages import Answer, DeadLetter
from include.streaming.model_api import Health, Row, outcomes


class StandInConnection:
    """Answers with the status that `status_of` gives for the ids asked; None: no answer."""

    def __init__(self, status_of) -> None:
        self.status_of, self.asked = status_of, []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        ids = [one["transaction_id"] for one in json.loads(body)]
        self.asked.append(ids)
        status = self.status_of(ids, len(self.asked))
        if status is None:
            raise Unanswered("nobody there")
        rest = {"probability": 0.5, "decision": "accept", "model_version": "1", "degraded": False}
        return status, json.dumps([rest | {"transaction_id": one} for one in ids]).encode()


def row(number: int, customer: int) -> Row:
    value = json.dumps({"transaction_id": number, "tx_datetime": "2025-07-01T12:34:56Z", "customer_id": customer,
                        "terminal_id": 1, "tx_amount": 1.0}).encode()  # fmt: skip
    transaction = messages.read(value)
    assert isinstance(transaction, Transaction)
    return Row(transaction, value)


def ask(connection, number: int, customers: int = 4, health: Health | None = None):
    async def all_of_them():
        rows = [row(one, one % customers) for one in range(number)]
        return [one async for one in outcomes(connection, health or Health(), rows)]

    return asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(model_api, "LONGEST_WAIT_SECONDS", 0.0001)


def test_one_request_is_enough_when_all_is_well():
    connection = StandInConnection(lambda ids, _: 200)
    assert [number for number, _ in ask(connection, 64)] == list(range(64))
    assert len(connection.asked) == 1


@pytest.mark.parametrize("status", [413, 422])
@pytest.mark.parametrize("bad", [{0}, {63}, {17, 18, 40}])
def test_a_refused_row_is_found_and_the_others_keep_their_order(status, bad):
    connection = StandInConnection(lambda ids, _: status if bad & set(ids) else 200)
    found = ask(connection, 64)
    assert [number for number, _ in found] == list(range(64))
    assert {number for number, outcome in found if isinstance(outcome, DeadLetter)} == bad
    assert len(connection.asked) < 64


@pytest.mark.parametrize("status", [None, 301, 401, 404, 429, 500, 502, 503])
def test_the_apis_own_trouble_is_waited_for(status):
    connection = StandInConnection(lambda ids, asked: status if asked < 40 else 200)
    found = ask(connection, 8)
    assert {number for number, _ in found} == set(range(8))
    assert all(isinstance(outcome, Answer) for _, outcome in found)


@pytest.mark.parametrize("poison", [0, 5, 7])
def test_a_row_that_the_model_fails_on_stops_nobody(poison):
    connection = StandInConnection(lambda ids, _: 500 if poison in ids else 200)
    found = dict(ask(connection, 8))
    assert {number for number, outcome in found.items() if isinstance(outcome, DeadLetter)} == {poison}
    assert found[poison].reason == "api_failed"


def test_a_poisonous_row_keeps_its_customers_order():
    connection = StandInConnection(lambda ids, _: 500 if 0 in ids else 200)
    found = [number for number, _ in ask(connection, 9, customers=3)]
    assert [number for number in found if number % 3 == 0] == [0, 3, 6]


def test_changes_of_health_are_logged_once(caplog):
    caplog.set_level("INFO")
    connection = StandInConnection(lambda ids, asked: None if asked < 20 else 200)
    ask(connection, 4)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_waits_grow_to_a_limit(monkeypatch):
    monkeypatch.setattr(model_api, "LONGEST_WAIT_SECONDS", 3.0)
    for tries in range(2000):
        longest = min(0.1 * 2 ** min(tries, 30), 3.0)
        assert longest / 2 <= model_api.wait_seconds(tries) <= longest


@pytest.mark.parametrize(
    "url", ["", "model-api:8000", "ftp://model-api", "http://", "http://host:port", "http://h/?a=1"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(BadInput, match="MLOPS_MODEL_API_URL"):
        Address.of(url)


def test_addresses():
    assert Address.of("http://model-api") == ("model-api", 80, False, "/predict")
    assert Address.of("https://host:8443/fraud/") == ("host", 8443, True, "/fraud/predict")
