"""What smoke takes for a wrong answer. Real HTTP servers answer as they are told; the Deployment is fake."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from include.command import Refused
from include.model_package import Golden
from include.serving.rollout import smoke
from include.serving.rollout.deployment import Pod
from include.serving.rollout.preflight import Planned

PLAN = Planned(rollout="r", name="fraud", version="2", previous_version="1", action="roll", said="")
RIGHT = {"probability": 0.25, "model_version": "2"}


@pytest.fixture
def served():
    """A function that starts a server with that answer and returns its address."""
    servers = []

    def start(answer, status=200):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tried(monkeypatch):
    """Smoke with the service at an address, and the pods as the first and the later looks find them."""

    def run(service, first, later):
        looks = iter([first])
        manifest = SimpleNamespace(golden=[Golden({"transaction_id": 1}, [], 0.25)])
        monkeypatch.setattr(smoke, "servable", lambda name, version: manifest)
        monkeypatch.setattr(smoke, "settings", lambda: SimpleNamespace(model_api_url=service))
        monkeypatch.setattr(smoke, "live_deployment", lambda: SimpleNamespace(pods=lambda: next(looks, later)))
        return smoke.main(smoke.Args(plan=PLAN))

    return run


def pod(name, url, ready=True):
    return Pod(name, "2", ready, 0, url)


NOBODY = "http://127.0.0.1:9"


def test_a_replica_that_was_removed_need_not_answer(served, tried):
    right = served(RIGHT)
    stays = pod("a", right)
    assert tried(right, [stays, pod("b", NOBODY)], [stays]) == {"requests": 3, "largest_difference": 0.0}


def test_one_that_stops_and_says_so_need_not_either(served, tried):
    right = served(RIGHT)
    tried(right, [pod("a", right), pod("b", served({}, 503))], [pod("a", right)])


def test_one_that_only_starts_is_not_asked(served, tried):
    right = served(RIGHT)
    pods = [pod("a", right), pod("b", NOBODY, ready=False)]
    assert tried(right, pods, pods)["requests"] == 2


def test_one_that_is_still_there_must_answer(served, tried):
    right = served(RIGHT)
    pods = [pod("a", right), pod("b", NOBODY)]
    with pytest.raises(Refused, match="answers 1 of 3 golden requests wrongly: b: ConnectError"):
        tried(right, pods, pods)


def test_a_wrong_answer_counts_even_of_one_that_was_removed(served, tried):
    right = served(RIGHT)
    wrong = served({"probability": 0.9, "model_version": "2"})
    with pytest.raises(Refused, match=r"b: 0.900000 where training found 0.250000 \(transaction 1\)"):
        tried(right, [pod("a", right), pod("b", wrong)], [pod("a", right)])


def test_the_service_must_answer(served, tried):
    with pytest.raises(Refused, match="the service: ConnectError"):
        tried(NOBODY, [pod("a", served(RIGHT))], [])
