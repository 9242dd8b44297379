"""Print the last lines of the local stack's logs: ``python -m include.local.logs [NAME] [--lines N]``."""

import argparse
import sys

from include.local.state import State


def main() -> int:
    """Exit code 2 when there is no such log."""
    state = State.from_environment()
    logs = {file.stem: file for file in sorted(state.log.glob("*.log"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="a process of the stack; without it, all")
    parser.add_argument("--lines", type=int, default=40)
    asked = parser.parse_args()
    if asked.name and asked.name not in logs:
        known = ", ".join(logs) or "none: the stack has not been started"
        print(f"no log of {asked.name!r} in {state.log}; there are: {known}", file=sys.stderr)
        return 2
    for name, file in logs.items():
        if asked.name in (None, name):
            print(f"==> {file} <==")
            print("\n".join(file.read_text(errors="replace").splitlines()[-asked.lines :]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
