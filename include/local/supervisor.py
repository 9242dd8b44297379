"""Start the processes in order, tell who runs, stop them in reverse."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from include.local.process import Process
from include.local.process_group import MARK, Leader, end, listens, marks, members
from include.local.state import StackError, State

POLL_SECONDS = 0.3
TELL_SECONDS = 5.0
GRACE_SECONDS = 20.0  # Airflow's group took 8 s to end on an idle machine
TAIL_LINES = 25
KEEPER = "keeper"  # starts again what has died, so it is stopped before anything else


@dataclass(frozen=True)
class Running:
    """What is on record about a process that was started."""

    name: str
    leader: Leader
    fingerprint: str
    address: str
    since: float
    after: Sequence[str] = ()


@dataclass
class Start:
    """A process that was started and does not serve yet."""

    process: Process
    child: subprocess.Popen[bytes]
    begun: float
    told: float


class Supervisor:
    """The processes of one state folder. `say` receives one line of progress at a time."""

    def __init__(self, state: State, say: Callable[[str], None]) -> None:
        self.state = state
        self.say = say
        self._children: list[subprocess.Popen[bytes]] = []  # kept, so that an ended child is collected

    def records(self) -> list[Running]:
        """Everything that was started and not stopped, in the order of start, alive or not."""
        found = [_read(file) for file in self.state.run.glob("*.json")]
        return sorted(found, key=lambda running: running.since)

    def running(self) -> dict[str, Running]:
        """Who runs now, by name."""
        for child in self._children:
            child.poll()
        return {record.name: record for record in self.records() if record.leader.lives()}

    def start(self, processes: Sequence[Process], environment: Mapping[str, str]) -> None:
        """Start what does not run yet, or runs otherwise than described, and wait until everything serves.

        When one cannot be started, the ones of this call are stopped again.
        """
        self._stop_outdated(processes)
        waiting = [process for process in processes if process.name not in self.running()]
        starting: list[Start] = []
        begun: list[str] = []
        try:
            while waiting or starting:
                held_back = {process.name for process in waiting} | {start.process.name for start in starting}
                for process in [process for process in waiting if held_back.isdisjoint(process.after)]:
                    waiting.remove(process)
                    begun.append(process.name)
                    starting.append(self._launch(process, environment))
                starting = [start for start in starting if not self._serves(start)]
                time.sleep(POLL_SECONDS if starting else 0)
        except BaseException:
            for name in reversed(begun):
                self.stop(name)
            raise

    def stop(self, name: str) -> None:
        """End the process and everything it started."""
        file = self._file(name)
        leader = _read(file).leader if file.exists() else None
        began = time.monotonic()
        if not end(self._mark(name), leader, GRACE_SECONDS):
            raise StackError(f"{name} outlives SIGKILL; look at its processes with: ps -e -o pid,stat,args")
        file.unlink(missing_ok=True)
        self.say(f"{name} stopped after {time.monotonic() - began:.1f} s")

    def stop_all(self) -> None:
        """End everything of this state folder, nothing before those that need it, also what lost its record."""
        self.stop_keeper()
        names = _in_order_of_need(self.records())
        strays = {mark.removeprefix(self._mark("")) for mark in marks(self._mark(""))} - set(names)
        for name in [*sorted(strays), *reversed(names)]:
            self.stop(name)

    def stop_keeper(self) -> None:
        """From here on nothing is started again by itself."""
        if self.members(KEEPER) or self._file(KEEPER).exists():
            self.stop(KEEPER)

    def members(self, name: str) -> list[int]:
        """The process numbers of everything that belongs to `name`."""
        return [process.pid for process in self._members(name)]

    def log_file(self, name: str) -> Path:
        """Where `name` writes what it prints."""
        return self.state.log / f"{name}.log"

    def _members(self, name: str) -> list[psutil.Process]:
        file = self._file(name)
        leader = _read(file).leader if file.exists() else None
        return members(self._mark(name), leader)

    def _stop_outdated(self, processes: Sequence[Process]) -> None:
        running = self.running()
        for process in reversed(processes):
            if process.name not in running and self.members(process.name):
                self.say(f"{process.name} died and left processes behind")
            elif process.name in running and running[process.name].fingerprint != process.fingerprint():
                self.say(f"{process.name} runs with other settings than asked for now")
            else:
                continue
            self.stop(process.name)

    def _launch(self, process: Process, environment: Mapping[str, str]) -> Start:
        for file, text in process.files.items():
            file.write_text(text)
        process.prepare(self.say)
        log_file = self.log_file(process.name)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if log_file.exists():
            log_file.replace(log_file.with_suffix(".log.1"))
        env = {**environment, **process.env, MARK: self._mark(process.name)}
        with log_file.open("wb") as log:
            try:
                child = subprocess.Popen(
                    process.argv,
                    env=env,
                    cwd=process.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise StackError(f"{process.name}: {process.argv[0]} cannot be started: {error}; install it") from error
        self._children.append(child)
        leader = Leader.of(child.pid)
        record = {"leader": leader.record(), "fingerprint": process.fingerprint()}
        _write(
            self._file(process.name),
            {**record, "address": process.address, "since": time.time(), "after": list(process.after)},
        )
        self.say(f"{process.name} started (log: {log_file})")
        now = time.monotonic()
        return Start(process, child, now, now)

    def _serves(self, start: Start) -> bool:
        process = start.process
        answered = process.ready()
        waited = time.monotonic() - start.begun
        if (code := start.child.poll()) is not None:  # asked after the probe: another program may have answered it
            raise StackError(
                f"{process.name} ended with exit code {code} before it served.\n{self._tail(process.name)}"
            )
        if answered and process.port and not listens(self._members(process.name), process.port):
            # Airflow's parent process lives on when its server cannot have the port.
            raise StackError(f"port {process.port} of {process.name} is answered by another program; start again")
        if answered:
            process.furnish(self.say)
            self.say(f"{process.name} serves at {process.address} after {waited:.0f} s")
            return True
        if waited > process.ready_within:
            limit = f"{process.ready_within:.0f} s"
            raise StackError(f"{process.name} does not serve within {limit}.\n{self._tail(process.name)}")
        if time.monotonic() - start.told >= TELL_SECONDS:
            start.told = time.monotonic()
            self.say(f"waiting for {process.name}: {waited:.0f} s")
        return False

    def _tail(self, name: str) -> str:
        log_file = self.log_file(name)
        lines = log_file.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        said = "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"
        return f"The last lines of {log_file}:\n{said}\nMend what they name, then start again."

    def _file(self, name: str) -> Path:
        return self.state.run / f"{name}.json"

    def _mark(self, name: str) -> str:
        return f"{self.state.root}:{name}"


def _read(file: Path) -> Running:
    saved: dict[str, Any] = json.loads(file.read_text())
    return Running(
        file.stem,
        Leader(**saved["leader"]),
        saved["fingerprint"],
        saved["address"],
        saved["since"],
        saved.get("after", ()),
    )


def _in_order_of_need(records: Sequence[Running]) -> list[str]:
    """As they were started, but each after those it needs: one that died is started again long after them."""
    waiting, ordered = list(records), list[str]()
    while waiting:
        names = {record.name for record in waiting}
        following = next((record for record in waiting if names.isdisjoint(record.after)), waiting[0])
        waiting.remove(following)
        ordered.append(following.name)
    return ordered


def _write(file: Path, record: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(record, indent=2) + "\n")
    whole.replace(file)
