"""A stand-in for the model API that misbehaves as it is told, and remembers who asked for what."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Transaction = dict[str, int | float | str]


class FakeApi:
    """`status_of` gives the status of a request, `delay` how long its answer takes."""

    def __init__(self) -> None:
        self.status_of: Callable[[list[Transaction]], int] = lambda _: 200
        self.delay: Callable[[], float] = lambda: 0.0
        self.asked: list[tuple[float, float, list[Transaction]]] = []  # began, ended, what for
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                began = time.monotonic()
                transactions = json.loads(self.rfile.read(int(self.headers["content-length"])))
                time.sleep(api.delay())
                status = api.status_of(transactions)
                body = json.dumps([prediction(one) for one in transactions] if status == 200 else {"reason": "told so"})
                api.asked.append((began, time.monotonic(), transactions))
                head = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                self.wfile.write((head + body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()


def prediction(transaction: Transaction) -> dict[str, object]:
    return {
        "transaction_id": transaction["transaction_id"],
        "probability": 0.25,
        "decision": "accept",
        "model_version": "1",
        "degraded": False,
    }
