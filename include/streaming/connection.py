"""One HTTP connection to the model API that stays open, for one request at a time.

A general client (httpx) takes 0.6 to 0.9 ms of processor a request, as much as the API needs for a batch; this one
takes a twentieth of that.
"""

import asyncio
import random
import ssl
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

from include.command import BadInput

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 3.0
AGE_SECONDS = 15.0  # then it is opened anew, so that replicas that came later get their share


class Unanswered(Exception):
    """There is no whole answer; says why."""


class HungUp(Unanswered):
    """The server closed a connection that had been idle: asking again on another one is all it needs."""


class Address(NamedTuple):
    """Where requests go."""

    host: str
    port: int
    secure: bool
    path: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Of the API at `url`. Raises BadInput."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BadInput(
                f"MLOPS_MODEL_API_URL is {url!r}, which is not http://host[:port] or https://host[:port]; "
                "set it to the address of the model API"
            )
        secure = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/") + "/predict")


class Connection:
    """To one of the replicas."""

    def __init__(self, address: Address) -> None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._address = address
        self._head = (
            f"POST {address.path} HTTP/1.1\r\nhost: {host}:{address.port}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        self._exchange: _Exchange | None = None
        self._open_until = 0.0

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises Unanswered."""
        try:
            return await self._ask(body)
        except HungUp:
            return await self._ask(body)

    def close(self) -> None:
        """Hang up; the next request opens it anew."""
        if self._exchange is not None:
            self._exchange.transport.close()
            self._exchange = None

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        exchange = await self._opened()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await exchange.ask(self._head + b"%d\r\n\r\n" % len(body) + body)
        except TimeoutError:
            self.close()
            raise Unanswered(f"no answer within {ANSWER_SECONDS:.0f} s") from None
        except BaseException:
            self.close()
            raise
        if not exchange.stays_open:
            self.close()
        return answer

    async def _opened(self) -> "_Exchange":
        if self._exchange is not None and (self._exchange.lost or time.monotonic() > self._open_until):
            self.close()
        if self._exchange is None:
            address = self._address
            security = ssl.create_default_context() if address.secure else None
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, self._exchange = await asyncio.get_running_loop().create_connection(
                        _Exchange,
                        address.host,
                        address.port,
                        ssl=security,
                    )
            except TimeoutError:
                raise Unanswered(f"no connection to {address.host}:{address.port} in {CONNECT_SECONDS:.0f} s") from None
            except OSError as error:
                raise Unanswered(f"no connection to {address.host}:{address.port}: {error}") from None
            # not all at once
            self._open_until = time.monotonic() + AGE_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311
        return self._exchange


class _Exchange(asyncio.Protocol):
    """Requests and answers on one connection. The methods on_… are called by the parser."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost = False
        self.stays_open = True
        self._answered = 0
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._began = False
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send it; the future gets the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._began, self._body = False, []
        if self.lost:
            self._fail("hung up")
        else:
            self.transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._began = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"an answer that is not HTTP: {error}")
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._fail(f"the connection was lost: {error}" if error else "the server hung up")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._answered += 1
        self.stays_open = self._parser.should_keep_alive()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            kind = HungUp if self._answered and not self._began else Unanswered
            self._answer.set_exception(kind(why))
