"""A replica that is told to stop loses no request; one that has too much to do says so."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from include.serving.predict import MOST_ROWS
from tests.integration.serving.conftest import transaction

BODY = json.dumps(transaction()).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n" % len(BODY)
LISTS = 24


class Traffic:
    """Clients that send without pause: some keep their connections, as long as they may, some open new ones."""

    def __init__(self, address: tuple[str, int], keeping: int, opening: int) -> None:
        self.address = address
        self.answered = 0
        self.told_to_close = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        jobs = [self._keep] * keeping + [self._open] * opening
        self._threads = [threading.Thread(target=job) for job in jobs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(self.address, timeout=20) as connection:
                    while not self._stop.is_set() and self._send(connection, HEAD + b"\r\n" + BODY):
                        pass
            except OSError as error:
                self.failures.append(repr(error))

    def _open(self) -> None:
        while not self._stop.is_set():
            try:
                with socket.create_connection(self.address, timeout=20) as connection:
                    self._send(connection, HEAD + b"Connection: close\r\n\r\n" + BODY)
            except OSError as error:
                self.failures.append(repr(error))

    def _send(self, connection: socket.socket, request: bytes) -> bool:
        """Send one and read its answer; whether the connection may be used again."""
        connection.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got or not got.endswith(b"}"):
            more = connection.recv(65536)
            if not more:
                self.failures.append(f"closed after {got!r}")
                return False
            got += more
        if got.startswith(b"HTTP/1.1 200 "):
            self.answered += 1
        else:
            self.failures.append(got.decode())
        closes = b"connection: close" in got.lower()
        self.told_to_close += closes
        return not closes


@pytest.fixture
def shared() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


def ready(replica) -> int:
    return httpx.get(f"{replica.url}/ready", trust_env=False).status_code


def test_one_of_two_stops_under_traffic_and_nobody_notices(packed, serve, shared):
    leaving, staying = (serve(packed, shared=shared) for _ in range(2))
    traffic = Traffic(shared.getsockname(), keeping=6, opening=6)
    try:
        time.sleep(1)
        before = traffic.answered
        assert traffic.told_to_close < before
        assert leaving.metric("ml_model_predictions_total") > 0
        assert staying.metric("ml_model_predictions_total") > 0
        leaving.process.terminate()
        time.sleep(0.3)
        assert (ready(leaving), ready(staying)) == (503, 200)
        assert httpx.get(f"{leaving.url}/health", trust_env=False).status_code == 200
        assert leaving.process.wait(timeout=15) == 0
        with pytest.raises(httpx.ConnectError):
            ready(leaving)
        time.sleep(0.5)
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert traffic.answered > before + 100


def test_replicas_take_turns_and_no_request_is_lost(packed, serve, shared):
    """A rollout as the local runtime does it: again and again a new one, then the oldest stops."""
    running = [serve(packed, shared=shared, MLOPS_DRAIN_SECONDS="0.1") for _ in range(2)]
    traffic = Traffic(shared.getsockname(), keeping=3, opening=9)
    try:
        for _ in range(4):
            running.append(serve(packed, shared=shared, MLOPS_DRAIN_SECONDS="0.1"))
            assert running.pop(0).terminate() == 0
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert traffic.answered > 1000


def test_answers_ask_to_close_while_draining(packed, serve):
    replica = serve(packed, MLOPS_DRAIN_SECONDS="3")
    with replica.client() as client:
        assert "connection" not in client.post("/predict", content=BODY).headers
        replica.process.terminate()
        time.sleep(0.2)
        for _ in range(2):
            assert client.post("/predict", content=BODY).headers["connection"] == "close"
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    began = time.monotonic()
    assert replica.process.wait(timeout=15) == 0
    assert 1 < time.monotonic() - began < 5


def test_what_is_in_flight_is_finished(packed, serve):
    """A body that is still on its way when the drain ends is waited for, and its request answered."""
    replica = serve(packed, MLOPS_DRAIN_SECONDS="0.5")
    with connected(replica) as slow:
        slow.sendall(HEAD + b"\r\n" + BODY[:10])
        time.sleep(0.2)
        replica.process.terminate()
        time.sleep(2)
        assert replica.process.poll() is None
        with pytest.raises(ConnectionRefusedError):
            connected(replica)
        slow.sendall(BODY[10:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert replica.process.wait(timeout=5) == 0


def test_who_never_finishes_is_not_waited_for_long(packed, serve):
    replica = serve(packed, MLOPS_DRAIN_SECONDS="0.5")
    with connected(replica) as silent, connected(replica) as endless:
        endless.sendall(HEAD + b"\r\n" + BODY[:10])
        time.sleep(0.2)
        began = time.monotonic()
        assert replica.terminate() == 0
        assert time.monotonic() - began < 10  # with the usual drain of 5 s: less than 15 s
        assert silent.recv(1) == b""


def test_too_much_at_once_is_refused_and_counted(packed, serve, redis_server):
    """While Redis hangs, lists come: as many as may wait are scored, the others told to come again."""
    replica = serve(packed, redis_server.url)
    body = json.dumps([transaction(transaction_id=number) for number in range(MOST_ROWS)]).encode()
    request = b"POST /predict HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    clients = [connected(replica) for _ in range(LISTS)]
    redis_server.pause()
    for client in clients:
        client.sendall(request)
    answers = [read(client) for client in clients]
    redis_server.resume()
    for status, headers, answer in answers:
        if status == 200:
            assert [one["transaction_id"] for one in answer] == list(range(MOST_ROWS))
        else:
            assert (status, headers["retry-after"]) == (503, "1")
            assert "try again" in answer["reason"]
    statuses = [status for status, _, _ in answers]
    refused = statuses.count(503)
    assert 0 < refused < LISTS
    assert replica.metric("ml_model_errors_total", reason="queue_full") == refused
    assert replica.metric("http_requests_total", path="/predict", status="503") == refused
    assert replica.metric("ml_model_predictions_total") == MOST_ROWS * (LISTS - refused)
    assert replica.metric("ml_queue_rows") == 0
    told = clients[statuses.index(503)]
    told.sendall(request)  # on the same connection
    assert read(told)[0] == 200
    for client in clients:
        client.close()


def connected(replica) -> socket.socket:
    host, _, port = replica.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def read(connection: socket.socket) -> tuple[int, httpx.Headers, object]:
    """Status, headers and content of one answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, _, content = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = httpx.Headers([tuple(line.split(": ", 1)) for line in lines[1:]])
    while len(content) < int(headers["content-length"]):
        content += connection.recv(65536)
    return int(lines[0].split()[1]), headers, json.loads(content)
