"""What stands between Alertmanager and the inbox, and can be made to misbehave as real ones do."""

import contextlib
import smtplib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


class MailRelay:
    """Hands mails on to the inbox. `mode`: pass, refuse (451), late (after `delay` s), stale (another)."""

    def __init__(self, port: int, inbox_port: int) -> None:
        self.mode, self.delay, self.other = "pass", 0.0, b""
        self._inbox_port = inbox_port
        self._controller = Controller(self, hostname="127.0.0.1", port=port, server_hostname="relay")
        self._controller.start()

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        if self.mode == "refuse":
            return "451 4.7.1 try again later"
        if self.mode == "stale":
            if b"[FIRING]" in envelope.content:
                self._hand_on(self.other)
        elif self.mode == "late":
            threading.Timer(self.delay, self._hand_on, [envelope.content]).start()
        else:
            self._hand_on(envelope.content)
        return "250 2.0.0 taken"

    def _hand_on(self, content: bytes) -> None:
        with contextlib.suppress(OSError), smtplib.SMTP("127.0.0.1", self._inbox_port, local_hostname="relay") as inbox:
            inbox.sendmail("alertmanager@example.org", ["admin@example.org"], content)  # lost when the inbox is away

    def close(self) -> None:
        if self._controller.server is not None:
            self._controller.stop()


class WebhookRelay:
    """Hands webhooks on to the inbox, or answers `status`."""

    def __init__(self, inbox: str) -> None:
        self.status = 200
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = relay.status
                if status == 200:
                    status = httpx.post(f"{inbox}/webhook", content=body, trust_env=False).status_code
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def wait_until(what: str, seen: Any, seconds: float = 20) -> None:
    """Return when `seen()` is true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
