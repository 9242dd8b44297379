"""The keeper as a process of the local stack: it starts again what has died (include/local/keeper.py)."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from include.local.events import events_file
from include.local.process import Process
from include.local.state import State
from include.local.supervisor import KEEPER

FRESH_SECONDS = 10.0  # after a look that long ago it does not work any more; starting another counts as looking


def keeper(state: State, dags: Path, asked: Mapping[str, str], after: Sequence[str]) -> Process:
    """The keeper of the stack in `state`. `asked` are the caller's settings: it describes the same processes."""
    looked = looked_file(state)
    return Process(
        name=KEEPER,
        argv=[sys.executable, "-m", "include.local.keeper", "--dags", str(dags)],
        env={**asked, "MLOPS_STATE": str(state.root)},
        ready=lambda: looked.exists() and time.time() - looked.stat().st_mtime < FRESH_SECONDS,
        address=str(events_file(state)),
        port=None,
        after=after,
    )


def looked_file(state: State) -> Path:
    """Touched at each look."""
    return state.data(KEEPER) / "looked"
