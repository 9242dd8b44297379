"""Progress of long work: a live bar on a terminal, plain log lines everywhere else."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track as live_bar

log = logging.getLogger("progress")
T = TypeVar("T")
EVERY_SECONDS = 5.0


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, telling how far the loop over them is. `what` names the work ("simulate days")."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from live_bar(items, description=what, total=total, console=Console(stderr=True), transient=True)
        return
    said = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said >= EVERY_SECONDS:
            said = time.monotonic()
            log.info("%s: %d of %s", what, done, total if total is not None else "?")
    log.info("%s: %d done", what, done)
