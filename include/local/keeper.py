"""Starts again what has died: ``python -m include.local.keeper --dags FOLDER``, the last process of the local stack.

A process that was started has a record in run/ until somebody stops it. One that has a record and does not live has
died; so has one whose new start failed. Restarts wait longer each time. Whoever starts or stops the stack at that
moment holds its lock, and the keeper looks again later.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.local import stack
from include.local.events import note
from include.local.keeper_process import looked_file
from include.local.process import Process
from include.local.replica import Timing, backoff
from include.local.state import StackError, State
from include.local.supervisor import Running, Supervisor

LOOK_SECONDS = 1.0


@dataclass
class Death:
    """A process that has died, and did so before."""

    crashes: int = 0
    at: float = 0.0  # monotonic


class Keeper:
    """Keeps `describe()` running in one state folder."""

    def __init__(self, state: State, describe: Callable[[], Sequence[Process]], env: Mapping[str, str]) -> None:
        self._state, self._describe, self._env = state, describe, env
        self._supervisor = Supervisor(state, say=lambda line: print(line, flush=True))
        self._deaths: dict[str, Death] = {}
        self._owed: dict[str, float] = {}  # who has to be started, and not before when (monotonic)

    def look(self) -> None:
        """Start who has died, as far as it is due."""
        if not self._dead() and not self._due():
            return
        try:
            with self._state.locked():
                for record in self._dead():
                    self._note_death(record)
                for process in self._describe() if self._due() else ():
                    if process.name in self._due():
                        self._restart(process)
        except StackError as error:
            print(error, flush=True)  # a command is at it

    def _dead(self) -> list[Running]:
        """Who has died and is not owed a start yet; whoever was started by a command meanwhile is owed none."""
        running = self._supervisor.running()
        for name in running:
            self._owed.pop(name, None)
        return [each for each in self._supervisor.records() if each.name not in running and each.name not in self._owed]

    def _due(self) -> set[str]:
        return {name for name, at in self._owed.items() if at <= time.monotonic()}

    def _note_death(self, record: Running) -> None:
        pause = self._pause(record.name)
        lived = time.time() - record.since
        note(
            self._state, record.name, "died", f"process {record.leader.pid} after {lived:.0f} s; next in {pause:.0f} s"
        )

    def _pause(self, name: str) -> float:
        """Count one more crash; from when on its next start is due."""
        timing, now = Timing(), time.monotonic()
        death = self._deaths.setdefault(name, Death())
        death.crashes = 1 if now - death.at > timing.backoff_reset else death.crashes + 1
        death.at = now
        pause = backoff(death.crashes, timing)
        self._owed[name] = now + pause
        return pause

    def _restart(self, process: Process) -> None:
        began = time.monotonic()
        try:
            self._supervisor.start([process], self._env)
        except StackError as error:
            pause = self._pause(process.name)
            print(error, flush=True)
            note(self._state, process.name, "start failed", f"{str(error).splitlines()[0]}; next in {pause:.0f} s")
        else:
            self._owed.pop(process.name)
            note(self._state, process.name, "restarted", f"serves after {time.monotonic() - began:.1f} s")


def main() -> int:
    """Until SIGTERM, which may come at any moment: what it was starting is on record already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dags", type=Path, required=True)
    dags = parser.parse_args().dags
    state = State.from_environment()
    kept = Keeper(state, lambda: stack.processes(state, state.ports(), dags), stack.inherited_environment())
    looked = looked_file(state)
    while True:
        kept.look()
        looked.touch()
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
