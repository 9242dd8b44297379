"""The real Redis of the local stack."""

import os
import socket
import threading

import pytest
import redis

from include.local.redis_server import answers_ping, redis_server, redis_url
from include.local.state import State, any_free_port
from include.local.supervisor import Supervisor


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


@pytest.fixture
def supervisor(state):
    supervisor = Supervisor(state, say=print)
    yield supervisor
    supervisor.stop_all()


def test_serves_with_the_charts_limits_and_keeps_its_data(state, supervisor):
    process = redis_server(state, any_free_port(taken=()))
    for _ in range(2):
        supervisor.start([process], dict(os.environ))
        with redis.Redis.from_url(process.address, decode_responses=True) as client:
            configured = {
                name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly", "bind", "save")
            }
            assert configured == {
                "maxmemory-policy": "allkeys-lru",
                "appendonly": "yes",
                "bind": "127.0.0.1",
                "save": "",
            }
            assert client.config_get("maxmemory")["maxmemory"] == str(100 * 2**20)
            client.incr("starts")
        supervisor.stop("redis")
    supervisor.start([process], dict(os.environ))
    with redis.Redis.from_url(process.address, decode_responses=True) as client:
        assert client.get("starts") == "2", "what was written before the stops"
    assert list(state.data("redis").glob("appendonly*"))


def test_only_a_pong_counts():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert not answers_ping(port)(), "nobody listens"
        silent.listen()
        silent.settimeout(5)

        def says(answer):
            def serve():
                client, _ = silent.accept()
                with client:
                    client.recv(16)
                    client.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            try:
                return answers_ping(port)()
            finally:
                thread.join()

        assert not says(b"-LOADING Redis is loading the dataset in memory\r\n")
        assert says(b"+PONG\r\n")


def test_the_address_is_one_that_clients_read():
    assert redis_url(6379) == "redis://127.0.0.1:6379/0"
