"""The admin's second address: a mailbox and a webhook that can be asked what arrived.

`python -m include.alerting.inbox --http-port 8025 --smtp-port 2525 --folder DIR`

Nothing is confirmed to the sender before it is on the disk. There is no password: whoever reaches the ports may write
and read, so listen only where the sender and the drill are (`--host`).
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from include.alerting.message import Message, from_mail, from_webhook
from include.command import StepArgs, run

log = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024  # of one mail or one webhook
MOST_MESSAGES = 50_000  # kept; without this, one who sends without end would fill the disk before the days are over
DAY = 86_400
MAIL_NAME = "inbox.localdomain"  # how the mail server calls itself; asking the resolver takes seconds on some machines


class Args(StepArgs):
    """Where to listen and where to keep what arrives."""

    http_port: int = Field(ge=0, le=65535)
    smtp_port: int = Field(ge=0, le=65535)
    folder: Path = Field(description="where messages are kept")
    host: str = Field("127.0.0.1", description="address to listen on (default: this machine only; 0.0.0.0 in a pod)")
    days: float = Field(7, gt=0, description="how long a message is kept")


class Mailbox:
    """Messages in a folder, one file each; all of them are also held in memory, in the order of arrival."""

    def __init__(self, folder: Path, days: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._keep = folder, days * DAY
        self._number = itertools.count()
        self._kept: list[tuple[Path, Message]] = []
        for file in sorted(folder.glob("*.json")):
            try:
                self._kept.append((file, Message.model_validate_json(file.read_bytes())))
            except ValidationError as error:
                log.error("%s is not a message and is left alone: %s", file, error)
        self._kept.sort(key=lambda one: one[1].received_at)

    def put(self, message: Message) -> None:
        """Keep it. Returns when it is on the disk; raises OSError when it cannot be written."""
        name = f"{int(message.received_at * 1e6):017d}-{os.getpid()}-{next(self._number)}-{message.channel}.json"
        handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".message-")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(message.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._kept.append((self._folder / name, message))
        self._forget()
        log.info("%s: %s %s", message.channel, message.status, message.alertname or message.subject)

    def since(self, moment: float) -> list[Message]:
        """What arrived at `moment` or later."""
        return [message for _, message in self._kept if message.received_at >= moment]

    def _forget(self) -> None:
        oldest = time.time() - self._keep
        while self._kept and (self._kept[0][1].received_at < oldest or len(self._kept) > MOST_MESSAGES):
            file, _ = self._kept.pop(0)
            file.unlink(missing_ok=True)


class Postman:
    """What the SMTP server hands its mails to."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        """Confirm what is on the disk; the sender tries again later when it is not."""
        content = envelope.content
        assert isinstance(content, bytes)  # aiosmtpd's default
        try:
            self._mailbox.put(from_mail(content, list(envelope.rcpt_tos), time.time()))
        except OSError as error:
            log.error("a mail could not be kept: %s", error)
            return "451 4.3.0 the inbox cannot write; try again"
        return "250 2.0.0 kept"


def application(mailbox: Mailbox, host: str, smtp_port: int) -> Starlette:
    """The HTTP side; the mail server lives as long as it does."""

    async def webhook(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return PlainTextResponse(f"more than {MOST_BYTES} bytes\n", status_code=413)
        try:
            message = from_webhook(body, time.time())
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        try:
            mailbox.put(message)
        except OSError as error:
            log.error("a webhook could not be kept: %s", error)
            return PlainTextResponse("the inbox cannot write; try again\n", status_code=503)
        return PlainTextResponse("kept\n")

    async def messages(request: Request) -> Response:
        asked = request.query_params.get("since", "0")
        try:
            since = float(asked)
        except ValueError:
            return PlainTextResponse(
                f"since={asked!r}: must be seconds since 1970, as in ?since=1763700000\n", status_code=400
            )
        return JSONResponse([message.model_dump() for message in mailbox.since(since)])

    async def health(_: Request) -> Response:
        return PlainTextResponse("ready\n")

    @contextlib.asynccontextmanager
    async def mail_server(_: Starlette) -> AsyncIterator[None]:
        def connection() -> SMTP:
            return SMTP(Postman(mailbox), data_size_limit=MOST_BYTES, hostname=MAIL_NAME, enable_SMTPUTF8=True)

        server = await asyncio.get_running_loop().create_server(connection, host, smtp_port)
        async with server:
            yield

    return Starlette(
        routes=[
            Route("/webhook", webhook, methods=["POST"]),
            Route("/webhook/{name}", webhook, methods=["POST"]),
            Route("/messages", messages),
            Route("/health", health),
        ],
        lifespan=mail_server,
    )


def main(args: Args) -> dict[str, int]:
    """Serve until SIGTERM. Answer: how many messages are kept."""
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    mailbox = Mailbox(args.folder, args.days)
    app = application(mailbox, args.host, args.smtp_port)
    config = uvicorn.Config(
        app, host=args.host, port=args.http_port, log_level="warning", access_log=False, timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: None)  # uvicorn heeds them, and raises them once more when it has ended
    server.run()
    if not server.started:
        sys.exit(1)  # uvicorn has said why: a port is taken
    return {"kept": len(mailbox.since(0))}


if __name__ == "__main__":
    run(main)
