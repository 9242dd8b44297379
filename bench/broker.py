"""A real Kafka broker of a benchmark's own, which can be killed and started again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.local.kafka_server import kafka_server
from include.local.stack import inherited_environment
from include.local.state import State, any_free_port
from include.local.supervisor import Supervisor


class Broker:
    """One node with the repository's topics."""

    def __init__(self, state: State) -> None:
        self._supervisor = Supervisor(state, say=print)
        broker = any_free_port(taken=())  # the default ports stay with the stack that a person may have running
        ports = {"kafka": broker, "kafka-controller": any_free_port(taken=(broker,))}
        self._process = kafka_server(state, ports)
        self.address = self._process.address

    def start(self) -> None:
        """Return when it serves; after a kill on the same port, with the same data."""
        self._supervisor.start([self._process], inherited_environment())

    def kill(self) -> None:
        """As a power cut of the process: no time to say anything. Returns when it is gone: `start` would find it."""
        for member in self._supervisor.members(self._process.name):
            os.kill(member, signal.SIGKILL)
            os.waitid(os.P_PID, member, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """End it in order."""
        self._supervisor.stop_all()


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """A broker that serves, with its data in `folder`."""
    one = Broker(State(folder))
    try:
        one.start()
        yield one
    finally:
        one.stop()
