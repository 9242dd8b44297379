"""The sender's other half, a process of its own so that nothing it does holds the sender up.

It matches answers, asks Prometheus, pushes metrics and says how far the attack is. It is forked before either half
talks to Kafka: threads do not survive a fork.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from include.command import BadInput
from include.loadtest.ledger import Ledger, Said
from include.loadtest.matcher import Matcher
from include.loadtest.prometheus import holds
from include.loadtest.telemetry import Telemetry

log = logging.getLogger("attack")

READY_SECONDS, LEAVE_SECONDS = 60.0, 3.0
TELL_EVERY = 1.0
ASK_EVERY = 1.0


@dataclass(frozen=True)
class Watched:
    """What the observer looks at."""

    run: str
    bootstrap: str
    inputs: str
    predictions: str
    dead_letters: str
    gateway: str
    prometheus: str
    raise_until: str | None
    stop_when: str | None


@contextmanager
def observer(ledger: Ledger, watched: Watched) -> Iterator[None]:
    """Runs beside the block; the block begins when the observer knows where the answers of this run will begin."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_observe, args=(ledger, watched, theirs, os.getpid()), name="observer")
    process.start()
    theirs.close()
    try:
        _wait_until_ready(ours)
        yield
    finally:
        ledger.said[Said.FINISH] = 1
        process.join(LEAVE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _wait_until_ready(pipe: Connection) -> None:
    if not pipe.poll(READY_SECONDS):
        raise TimeoutError(f"the observer was not ready within {READY_SECONDS:.0f} s")
    try:
        problem = pipe.recv()
    except EOFError:
        raise RuntimeError("the observer died at its start; the log says why") from None
    if problem is not None:
        raise problem


def _observe(ledger: Ledger, watched: Watched, pipe: Connection, sender: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the sender takes them, and ends this process when it has drained
    try:
        for query in filter(None, (watched.raise_until, watched.stop_when)):
            holds(watched.prometheus, query)  # what is no PromQL is said before the first message
        matcher = Matcher(watched.bootstrap, watched.run, ledger)
        matcher.begin(watched.inputs, watched.predictions, watched.dead_letters)
    except (BadInput, ConnectionError) as problem:
        pipe.send(problem)
        return
    ledger.said[Said.BEAT_AT] = time.time_ns()
    pipe.send(None)
    for loop in (_tell, _ask):
        threading.Thread(target=loop, args=(ledger, watched, matcher), daemon=True).start()
    while not ledger.said[Said.FINISH] and os.getppid() == sender:
        matcher.match(0.1)
        ledger.said[Said.BEAT_AT] = time.time_ns()
    with suppress(Exception):
        Telemetry(watched.gateway, watched.run, ledger, matcher).tell(running=False)
    os._exit(0)  # nothing is buffered, and a consumer whose broker is gone would take its time to close


def _tell(ledger: Ledger, watched: Watched, matcher: Matcher) -> None:
    telemetry = Telemetry(watched.gateway, watched.run, ledger, matcher)
    while not ledger.said[Said.FINISH]:
        telemetry.tell(running=not ledger.said[Said.STOPPED])
        time.sleep(TELL_EVERY)


def _ask(ledger: Ledger, watched: Watched, matcher: Matcher) -> None:
    while not ledger.said[Said.FINISH]:
        if watched.raise_until:
            _note(ledger, Said.ENOUGH, holds(watched.prometheus, watched.raise_until))
        if watched.stop_when:
            _note(ledger, Said.OVER, holds(watched.prometheus, watched.stop_when))
        time.sleep(ASK_EVERY)


def _note(ledger: Ledger, what: Said, answer: bool | None) -> None:
    if answer is None:
        return
    ledger.said[Said.ANSWERED_AT] = time.time_ns()
    ledger.said[what] = int(answer)
