"""Tell what of the local stack runs: ``python -m include.local.status``. Exit code 3 when not everything does."""

import sys
import time

from rich.console import Console
from rich.table import Table

from include.code_version import ROOT
from include.local.stack import processes
from include.local.state import DEFAULT_PORTS, State
from include.local.supervisor import Supervisor


def main() -> int:
    """Exit code 0 when everything serves."""
    state = State.from_environment()
    supervisor = Supervisor(state, say=print)
    running = supervisor.running()
    table = Table("process", "state", "address", "pid", "members", "up for")
    serving = []
    for process in processes(state, state.ports() or DEFAULT_PORTS, ROOT / "dags"):
        found = running.get(process.name)
        serves = found is not None and process.ready()
        serving.append(serves)
        members = str(len(supervisor.members(process.name)))
        if found is None:
            table.add_row(process.name, "down", "", "", members, "")
            continue
        age = f"{(time.time() - found.since) / 60:.1f} min"
        table.add_row(
            process.name, "serves" if serves else "starts", found.address, str(found.leader.pid), members, age
        )
    Console().print(table)
    return 0 if all(serving) else 3


if __name__ == "__main__":
    sys.exit(main())
