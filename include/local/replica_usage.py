"""What the replicas' processes use, for the autoscaler."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from include.local.autoscaler import Usage


@dataclass(frozen=True)
class Reading:
    """The CPU seconds a process had used at one moment of the monotonic clock."""

    process: psutil.Process
    at: float
    cpu_seconds: float


class Meter:
    """CPU is measured between two calls of `measure`, so a process has no figure at its first."""

    def __init__(self) -> None:
        self._before: dict[int, Reading] = {}

    def measure(self, pids: Mapping[int, float | None], pidless: int = 0) -> list[Usage]:
        """The usage of each process, in any order.

        :param pids: process number to the moment (monotonic) since which it has been ready; None: it is not
        :param pidless: how many replicas have no process now; they count as not ready and without a figure
        """
        usages = [Usage(None, None, ready=False)] * pidless
        after: dict[int, Reading] = {}
        for pid, ready_since in pids.items():
            before = self._before.get(pid)
            try:
                process = before.process if before and before.process.is_running() else psutil.Process(pid)
                reading, memory = _read(process)
            except psutil.Error:  # it has just died
                usages.append(Usage(None, None, ready=False))
                continue
            after[pid] = reading
            usages.append(
                _usage(before if before and before.process == process else None, reading, memory, ready_since)
            )
        self._before = after
        return usages


def _usage(before: Reading | None, now: Reading, memory: float, ready_since: float | None) -> Usage:
    if before is None:
        return Usage(None, memory, ready=ready_since is not None)
    ready = ready_since is not None and ready_since <= before.at
    return Usage((now.cpu_seconds - before.cpu_seconds) / (now.at - before.at), memory, ready)


def _read(process: psutil.Process) -> tuple[Reading, float]:
    with process.oneshot():
        cpu = process.cpu_times()
        return Reading(process, time.monotonic(), cpu.user + cpu.system), float(process.memory_info().rss)
