"""What stops an attack before its schedule ends. The reasons are the answer's `stopped_by`."""

import signal
import time
from collections import deque
from pathlib import Path
from types import FrameType

from include.loadtest.ledger import Ledger, Said

STAGES_DONE, STOP_WHEN, DEADLINE, MAX_MESSAGES = "stages_done", "stop_when", "deadline", "max_messages"
ERROR_BUDGET, STOP_FILE, SIGNAL = "error_budget", "stop_file", "signal"
PROMETHEUS_SILENT, OBSERVER_DIED = "prometheus_silent", "observer_died"

LOOK_EVERY = 0.1
BUDGET_SECONDS, BUDGET_LEAST = 10.0, 200
OBSERVER_SECONDS = 30.0  # without a sign of life


class ErrorBudget:
    """Exceeded when more than `share` of the messages that ended within the last ten seconds failed.

    Fewer than BUDGET_LEAST of them prove nothing.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._seen: deque[tuple[float, int, int]] = deque()

    def exceeded(self, now: float, acked: int, failed: int) -> bool:
        """Tell it the totals as of `now` (in seconds)."""
        self._seen.append((now, acked, failed))
        while len(self._seen) > 1 and self._seen[1][0] <= now - BUDGET_SECONDS:
            self._seen.popleft()
        _, acked_before, failed_before = self._seen[0]
        failed -= failed_before
        ended = acked - acked_before + failed
        return ended >= BUDGET_LEAST and failed > self._share * ended


class Brakes:
    """Ask `pulled` often; it looks at everything ten times a second, at the signal each time."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        deadline: float,  # seconds of the monotonic clock
        max_messages: int,
        max_failed: float,
        stop_file: Path | None = None,
        silent_seconds: float = 60.0,
    ) -> None:
        self.max_messages = max_messages
        self._ledger, self._deadline, self._stop_file = ledger, deadline, stop_file
        self._budget = ErrorBudget(max_failed)
        self._silent_seconds = silent_seconds
        self._next_look = 0.0
        self._blind_since = 0.0
        self.signalled = False

    def take_signals(self) -> None:
        """From now on SIGTERM and SIGINT stop the attack, not the process: it still has to tell what it did."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def pulled(self) -> str:
        """Why to stop now, or nothing."""
        if self.signalled:
            return SIGNAL
        now = time.monotonic()
        if now >= self._deadline:
            return DEADLINE
        if now < self._next_look:
            return ""
        self._next_look = now + LOOK_EVERY
        said = self._ledger.said
        if self._stop_file and self._stop_file.exists():
            return STOP_FILE
        if said[Said.OVER]:
            return STOP_WHEN
        if self._budget.exceeded(now, int(said[Said.ACKED]), int(said[Said.FAILED])):
            return ERROR_BUDGET
        if time.time() - said[Said.BEAT_AT] / 1e9 > OBSERVER_SECONDS:
            return OBSERVER_DIED
        return self._blind(time.time())

    def _blind(self, now: float) -> str:
        """A surge goes on only while Prometheus tells what it does to the service."""
        if not self._ledger.said[Said.STAGE_KIND]:
            self._blind_since = now
        heard = max(self._blind_since, self._ledger.said[Said.ANSWERED_AT] / 1e9)
        return PROMETHEUS_SILENT if now - heard > self._silent_seconds else ""
