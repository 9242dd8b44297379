"""Start the local stack and print its addresses: ``python -m include.local.up``. A second call changes nothing."""

import sys

from include.local.stack import bring_up
from include.local.state import StackError, State


def main() -> int:
    """Exit code 0 when everything serves."""
    try:
        supervisor = bring_up(State.from_environment(), say=lambda line: print(line, flush=True))
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    for running in supervisor.running().values():
        print(f"{running.name:10} {running.address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
