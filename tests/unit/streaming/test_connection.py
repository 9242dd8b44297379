"""The HTTP connection, against servers that behave and that do not."""

import asyncio

import pytest

from include.streaming import connection
from include.streaming.connection import Address, Connection, Unanswered

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 422 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"


class StandInServer:
    """Answers each request with the next of `answers`; None: hangs up instead. Counts its connections."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers, self.connections, self.bodies = list(answers), 0, []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.answers:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
            answer = self.answers.pop(0)
            if answer is None:
                break
            for at in range(len(answer)):  # in as many pieces as there can be
                writer.write(answer[at : at + 1])
                await writer.drain()
        writer.close()


def exchange(server: StandInServer, requests: int, pause: float = 0.0) -> list[tuple[int, bytes]]:
    async def all_of_them() -> list[tuple[int, bytes]]:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        client = Connection(Address("127.0.0.1", listening.sockets[0].getsockname()[1], False, "/predict"))
        answers = []
        for number in range(requests):
            answers.append(await client.post(b"%d" % number))
            await asyncio.sleep(pause)
        client.close()
        listening.close()
        return answers

    return asyncio.run(all_of_them())


def test_one_connection_for_many_requests():
    server = StandInServer(GOOD, CHUNKED, GOOD)
    assert exchange(server, 3) == [(200, b"hi"), (422, b"hi"), (200, b"hi")]
    assert server.connections == 1
    assert server.bodies == [b"0", b"1", b"2"]


def test_a_server_that_asks_to_close_gets_a_new_connection():
    server = StandInServer(CLOSING, CLOSING)
    assert exchange(server, 2) == [(200, b"hi")] * 2
    assert server.connections == 2


def test_an_idle_connection_that_was_closed_is_no_failure():
    server = StandInServer(GOOD, None, GOOD)  # it takes the second request and hangs up: the client cannot know why
    assert exchange(server, 2) == [(200, b"hi")] * 2
    assert server.bodies == [b"0", b"1", b"1"]


def test_an_old_connection_is_opened_anew(monkeypatch):
    monkeypatch.setattr(connection, "AGE_SECONDS", 0.0)
    server = StandInServer(GOOD, GOOD)
    exchange(server, 2, pause=0.01)
    assert server.connections == 2


@pytest.mark.parametrize("answer", [None, b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"])
def test_half_an_answer_is_none(answer, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    with pytest.raises(Unanswered):
        exchange(StandInServer(answer), 1)


def test_silence_is_no_answer(monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
    with pytest.raises(Unanswered, match="no answer within"):
        exchange(StandInServer(b"", b""), 1)


def test_nobody_there():
    with pytest.raises(Unanswered, match="no connection to"):
        asyncio.run(Connection(Address("127.0.0.1", 9, False, "/predict")).post(b""))
