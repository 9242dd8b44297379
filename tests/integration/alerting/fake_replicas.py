"""Not the model API: an exporter whose "replicas" have the number and the CPU that a test sets."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT = 0.2  # cores of a replica, as in deploy/rules/recording-local.yaml
MOST = 6


class FakeReplicas:
    """`/0` … `/5` are the metrics of one replica each; those that are not ready answer 503."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready, self._cpu = 4, 0.1
        self._used, self._since = 0.0, time.monotonic()
        self.reachable = True
        self.others = 0.2
        self.backlog = 0
        self.bound: int | None = None  # the autoscaler's maximum, when kube-state-metrics would know it
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                text = fake.metrics(self.path)
                body = (text or "").encode()
                self.send_response(200 if text is not None else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")  # Prometheus 3 takes no answer without
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A scrape that was given up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def set(self, ready: int, cpu: float, others: float = 0.2) -> None:
        """So many are ready; the hottest uses that share of its limit, the others so much of what it uses."""
        with self._lock:
            self._count()
            self._ready, self._cpu, self.others = ready, cpu, others

    def metrics(self, path: str) -> str | None:
        """What is told under a path, or None."""
        with self._lock:
            if path == "/bounds":
                name = 'kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler="model-api"}'
                bound = f"{name} {self.bound}\n" if self.bound else ""
                return f"{bound}kafka_consumer_lag {self.backlog}\n"
            number = int(path.strip("/"))
            if not self.reachable or number >= self._ready:
                return None
            self._count()
            return f"process_cpu_seconds_total {self._used * (1 if number == 0 else self.others)}\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _count(self) -> None:
        now = time.monotonic()
        self._used += (now - self._since) * self._cpu * LIMIT
        self._since = now
