"""Who belongs to a started process, and how all of them are ended.

A process starts in a session of its own, and what it starts usually stays in that session. Not always: a task of
Airflow puts its step into another session. So every process also gets a mark in its environment, which its children
inherit wherever they go. (The mark alone would not do either: a program that changes its title overwrites it.)
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import psutil  # type: ignore[import-untyped]

MARK = "MLOPS_LOCAL_PROCESS"
SAME_START_SECONDS = 1.0
SAME_BOOT_SECONDS = 600.0  # the clock may be set while the machine runs; a reboot takes longer to be mistaken for that


@dataclass(frozen=True)
class Leader:
    """The process that was started, told from whoever has its number later by when it started."""

    pid: int
    started: float  # seconds after boot: the wall clock may be set in between
    boot: float

    @classmethod
    def of(cls, pid: int) -> "Leader":
        """The leader that runs as `pid` now."""
        boot = psutil.boot_time()
        return cls(pid, psutil.Process(pid).create_time() - boot, boot)

    def lives(self) -> bool:
        """Whether it still runs; a number that was given to another process is not it."""
        return self._whose() == "its own"

    def _whose(self) -> str:
        """Whose the process number is now: ``its own``, ``nobody's`` or ``another's``."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return "nobody's"
            other_start = abs(process.create_time() - psutil.boot_time() - self.started) > SAME_START_SECONDS
        except psutil.NoSuchProcess:
            return "nobody's"
        return "another's" if other_start or not self._same_boot() else "its own"

    def _same_boot(self) -> bool:
        return abs(psutil.boot_time() - self.boot) < SAME_BOOT_SECONDS

    def has_session(self) -> bool:
        """Whether the session named after its number can only be its own. It outlives the leader."""
        return self._same_boot() and self._whose() != "another's"

    def record(self) -> Mapping[str, float]:
        """For `Leader(**record)`."""
        return asdict(self)


def members(mark: str, leader: Leader | None) -> list[psutil.Process]:
    """Every living process of the leader's session, and every one that carries `mark`."""
    session = leader.pid if leader and leader.has_session() else None
    return [process for process in psutil.process_iter() if _belongs(process, mark, session)]


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Whether one of them accepts connections on `port`."""
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except (psutil.Error, OSError):  # gone meanwhile
            continue
        if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections):
            return True
    return False


def marks(prefix: str) -> set[str]:
    """The marks of living processes that begin with `prefix`."""
    found = {_mark(process) for process in psutil.process_iter()}
    return {mark for mark in found if mark.startswith(prefix)}


def end(mark: str, leader: Leader | None, grace: float) -> bool:
    """Ask every member to end, wait for all of them, kill what is left. False when something outlives even that."""
    for sign, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        told: set[psutil.Process] = set()
        deadline = time.monotonic() + seconds
        while left := members(mark, leader):
            for process in set(left) - told:
                _signal(process, sign)
            told.update(left)
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return True
    return not members(mark, leader)


def _signal(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)  # psutil compares the start time first
    except psutil.NoSuchProcess:
        return


def _belongs(process: psutil.Process, mark: str, session: int | None) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return (session is not None and os.getsid(process.pid) == session) or _mark(process) == mark
    except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        return False


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):  # gone, or another user's
        return ""
