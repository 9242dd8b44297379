"""Stop the local stack: ``python -m include.local.down``. Nothing of it runs afterwards; its data stays."""

import sys

from include.local.state import StackError, State
from include.local.supervisor import Supervisor

PATIENCE_SECONDS = 5.0


def main() -> int:
    """Exit code 0 when nothing of the stack runs any more."""
    state = State.from_environment()
    try:
        supervisor = Supervisor(state, say=lambda line: print(line, flush=True))
        supervisor.stop_keeper()  # it may hold the lock, for as long as it starts what has died
        with state.locked(PATIENCE_SECONDS):
            supervisor.stop_all()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"nothing of the stack in {state.root} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
