"""GET /metrics, /health and /ready of the scorer, answered by threads of their own."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

State = tuple[bool, dict[str, Any]]


def serve_probes(host: str, port: int, health: Callable[[], State], ready: Callable[[], State]) -> ThreadingHTTPServer:
    """Serve until `shutdown`. Raises OSError when the port is taken."""
    pages = {"/health": health, "/ready": ready}

    class Probes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._say(200, CONTENT_TYPE_LATEST, generate_latest())
            elif path in pages:
                good, state = pages[path]()
                self._say(200 if good else 503, "application/json", json.dumps(state).encode())
            else:
                self._say(404, "text/plain", b"there are /health, /ready and /metrics\n")

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes are no news."""

    server = ThreadingHTTPServer((host, port), Probes)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
