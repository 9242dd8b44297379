"""Whatever is sent to /predict is answered as documented and counted, and the next one is served."""

import json
import re
import socket
import time

import pytest

from include.serving.predict import MOST_BYTES, MOST_ROWS
from tests.integration.serving.conftest import metric, transaction

GOOD = transaction()


def text(**changed: object) -> bytes:
    return json.dumps(transaction(**changed)).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def many(*rows: object) -> bytes:
    return json.dumps(list(rows)).encode()


def in_chunks(body: bytes):
    """httpx sends what it gets piece by piece without a length."""
    return (body[at : at + 65536] for at in range(0, len(body), 65536))


HUGE = b" " * (3 * MOST_BYTES)
BODIES = {
    "empty": (b"", 422, "not_json", "body", "truncated"),
    "huge": (HUGE, 413, "too_large", "body", "larger than"),
    "huge without a length": (in_chunks, 413, "too_large", "body", "larger than"),
    "one byte too many": (text() + b" " * (MOST_BYTES + 1 - len(text())), 413, "too_large", "body", "larger than"),
    "not JSON": (b"transaction_id=1&customer_id=2", 422, "not_json", "body", "malformed"),
    "cut short": (text()[:-5], 422, "not_json", "body", "truncated"),
    "something after it": (text() + b"{}", 422, "not_json", "body", "trailing"),
    "invalid UTF-8": (b"\xff\xfe\xfd", 422, "not_json", "body", "malformed"),
    "invalid UTF-8 in a name": (text()[:-1] + b', "\xff": 1}', 422, "not_json", "body", "utf-8"),
    "half a surrogate": (text()[:-1] + b', "\\ud800": 1}', 422, "not_json", "body", "not JSON"),
    "null": (b"null", 422, "invalid", "body", "null"),
    "a number of a million digits": (b"9" * 1_000_000, 422, "invalid", "body", "out of range"),
    "100,000 brackets": (b"[" * 100_000, 422, "invalid", "[0]", "array"),
    "100,000 objects": (b'{"a":' * 100_000, 422, "invalid", "a", "unknown field"),
    "100,000 brackets in a field": (without("x")[:-1] + b', "x":' + b"[" * 100_000, 422, "invalid", "x", "unknown"),
    "100,000 brackets as a field": (
        text().replace(b"57.16", b"[" * 100_000), 422, "invalid", "tx_amount", "got `array`"),
    "NaN": (text(tx_amount=float("nan")), 422, "not_json", "body", "malformed"),
    "Infinity": (text(tx_amount=float("inf")), 422, "not_json", "body", "malformed"),
    "an amount beyond floats": (text().replace(b"57.16", b"1e999"), 422, "invalid", "tx_amount", "out of range"),
    "unknown field": (text(amount=3), 422, "invalid", "amount", "unknown field"),
    "unknown field with a long name": (text(**{"x" * 900_000: 3}), 422, "invalid", "x" * 300, "unknown field"),
    **{f"without {name}": (without(name), 422, "invalid", name, "missing") for name in GOOD},
    "text for a number": (text(customer_id="7"), 422, "invalid", "customer_id", "got `str`"),
    "a fraction for an id": (text(terminal_id=7.5), 422, "invalid", "terminal_id", "got `float`"),
    "true for a number": (text(tx_amount=True), 422, "invalid", "tx_amount", "got `bool`"),
    "null for an id": (text(transaction_id=None), 422, "invalid", "transaction_id", "got `null`"),
    "a number for a time": (text(tx_datetime=1533686401), 422, "invalid", "tx_datetime", "got `int`"),
    "naive time": (text(tx_datetime="2025-07-01T12:00:00"), 422, "invalid", "tx_datetime", "timezone"),
    "no such day": (text(tx_datetime="2025-02-30T12:00:00Z"), 422, "invalid", "tx_datetime", "RFC3339"),
    "before 1970": (text(tx_datetime="1969-12-31T23:59:59Z"), 422, "invalid", "tx_datetime", "1970 to 2199"),
    "year 1, east": (text(tx_datetime="0001-01-01T00:00:00+23:59"), 422, "invalid", "tx_datetime", "1970 to 2199"),
    "year 9999, west": (text(tx_datetime="9999-12-31T23:59:59-23:59"), 422, "invalid", "tx_datetime", "1970 to 2199"),
    "fraction of a cent": (text(tx_amount=1.005), 422, "invalid", "tx_amount", "whole cents"),
    "negative amount": (text(tx_amount=-0.01), 422, "invalid", "tx_amount", ">= 0"),
    "too much money": (text(tx_amount=2e9), 422, "invalid", "tx_amount", "<="),
    "id beyond 64 bits": (text(customer_id=2**63), 422, "invalid", "customer_id", "9223372036854775807"),
    "id far beyond": (text(terminal_id=-(10**30)), 422, "invalid", "terminal_id", "-9223372036854775808"),
    "empty list": (b"[]", 422, "invalid", "body", "empty"),
    "a list too long": (many(*[GOOD] * (MOST_ROWS + 1)), 413, "too_large", "body", str(MOST_ROWS)),
    "a list in a list": (many([GOOD]), 422, "invalid", "[0]", "array"),
    "one bad type in a list": (many(GOOD, GOOD, GOOD | {"customer_id": "x"}), 422, "invalid", "[2].customer_id", "str"),
    "one bad amount in a list": (many(GOOD, GOOD | {"tx_amount": 0.001}), 422, "invalid", "[1].tx_amount", "cents"),
    "one incomplete in a list": (many(GOOD, {"customer_id": 3}), 422, "invalid", "[1].transaction_id", "missing"),
    "one null in a list": (many(GOOD, None), 422, "invalid", "[1]", "got `null`"),
}  # fmt: skip

EXTREMES = [
    {"transaction_id": 2**63 - 1, "customer_id": -(2**63), "terminal_id": 2**63 - 1},
    {"tx_amount": 0, "tx_datetime": "1970-01-01T00:00:00Z"},
    {"tx_amount": 1e9, "tx_datetime": "2199-12-31T23:59:59.999999Z"},
    {"tx_datetime": "2025-07-01T14:34:56+02:00"},
    {"tx_datetime": "2025-07-01T12:34:56.123456789Z"},
    {"tx_amount": 0.07},
    {"tx_amount": 123456789.12},
]


@pytest.mark.parametrize(("body", "status", "reason", "field", "says"), BODIES.values(), ids=BODIES.keys())
def test_a_bad_body(replica, body, status, reason, field, says):
    with replica.client() as client:
        before = client.get("/metrics").text
        content = body(HUGE) if callable(body) else body
        answer = client.post("/predict", content=content)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        problem = answer.json()
        assert set(problem) == {"field", "reason"}
        assert problem["field"] == field
        assert says in problem["reason"]
        assert len(answer.content) < 1000
        assert client.post("/predict", json=GOOD).status_code == 200
        after = client.get("/metrics").text
    for name, labels in {
        "ml_model_errors_total": {"reason": reason},
        "http_requests_total": {"method": "POST", "path": "/predict", "status": str(status)},
    }.items():
        assert metric(after, name, **labels) == metric(before, name, **labels) + 1
    assert metric(after, "ml_model_errors_total") == metric(before, "ml_model_errors_total") + 1


@pytest.mark.parametrize("changed", EXTREMES)
def test_what_is_just_allowed(replica, changed):
    with replica.client() as client:
        answer = client.post("/predict?explain=true", json=transaction(**changed))
        assert answer.status_code == 200, answer.text
        assert 0 <= answer.json()["probability"] <= 1


def test_all_extremes_in_one_list(replica):
    with replica.client() as client:
        assert client.post("/predict", json=[transaction(**changed) for changed in EXTREMES]).status_code == 200


def test_a_body_of_the_largest_size(replica):
    with replica.client() as client:
        assert client.post("/predict", content=text() + b" " * (MOST_BYTES - len(text()))).status_code == 200


def test_too_large_reaches_a_client_that_sends_all_before_it_reads(replica):
    for _ in range(20):
        with connected(replica) as client:
            client.sendall(head(len(HUGE)) + HUGE)
            assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_waits_for_leave_to_send_a_huge_body_never_sends_it(replica):
    with connected(replica) as client:
        client.sendall(head(len(HUGE), "Expect: 100-continue"))
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_two_requests_in_one_packet_get_two_answers_in_order(replica):
    with connected(replica) as client:
        client.sendall(b"".join(head(len(body)) + body for body in (text(transaction_id=1), text(transaction_id=2))))
        got = b""
        while got.count(b'"degraded"') < 2:
            got += client.recv(65536)
    assert re.findall(rb'"transaction_id":(\d+)', got) == [b"1", b"2"]


def test_a_client_that_hangs_up_in_the_middle_of_its_body(replica):
    before = replica.metric("ml_model_errors_total", reason="hung_up")
    for _ in range(50):
        with connected(replica) as client:
            client.sendall(head(1000) + b"{")
    assert_serves(replica)
    assert replica.metric("ml_model_errors_total", reason="hung_up") == before + 50
    assert replica.metric("ml_requests_in_flight") == 1


def test_a_client_that_hangs_up_before_its_answer(replica):
    body = many(*[GOOD] * MOST_ROWS)
    for _ in range(50):
        with connected(replica) as client:
            client.sendall(head(len(body)) + body)
    assert_serves(replica)


def test_a_client_that_does_not_read_its_answers(replica):
    body = many(*[GOOD] * MOST_ROWS)
    with connected(replica) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):  # it does not read our requests either then
            client.sendall(200 * (head(len(body)) + body))
        assert_serves(replica)


def test_slow_clients_hold_nobody_up(replica):
    body = text()
    slow = [connected(replica) for _ in range(50)]
    request = head(len(body)) + body
    for at in range(0, len(request), 20):
        for client in slow:
            client.sendall(request[at : at + 20])
        began = time.monotonic()
        assert_serves(replica)
        assert time.monotonic() - began < 1
    for client in slow:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.close()


def connected(replica) -> socket.socket:
    host, _, port = replica.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def head(length: int, *more: str) -> bytes:
    lines = [
        "POST /predict HTTP/1.1",
        "Host: api",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def assert_serves(replica) -> None:
    with replica.client() as client:
        assert client.post("/predict", json=GOOD).status_code == 200
