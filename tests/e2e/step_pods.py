"""What the steps' pods look like from outside while they run; most are gone soon after."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from tests.e2e import cluster


class StepPods:
    """`seen`: the last state of each pod of the selector, by name. `look` is called with each pod, once a second."""

    def __init__(self, selector: str, look: Callable[[Any], None] = lambda pod: None) -> None:
        self.seen: dict[str, Any] = {}
        self._selector, self._look = selector, look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "StepPods":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1):
            with contextlib.suppress(AssertionError):  # a busy API server; the next look is a second away
                for pod in cluster.pods(self._selector):
                    self.seen[pod["metadata"]["name"]] = pod
                    self._look(pod)
