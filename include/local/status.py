"""Tell what of the local stack runs: ``python -m include.local.status``. Exit code 3 when not everything does."""

import sys
import time
from collections import Counter

from rich.console import Console
from rich.table import Table

from include.code_version import ROOT
from include.local.events import events
from include.local.stack import processes
from include.local.state import DEFAULT_PORTS, State
from include.local.supervisor import Supervisor


def main() -> int:
    """Exit code 0 when everything serves."""
    state = State.from_environment()
    supervisor = Supervisor(state, say=print)
    running = supervisor.running()
    happened = events(state)
    restarts = Counter(event["name"] for event in happened if event["event"] == "restarted")
    table = Table("process", "state", "address", "pid", "members", "up for", "restarts")
    serving = []
    for process in processes(state, state.ports() or DEFAULT_PORTS, ROOT / "dags"):
        found = running.get(process.name)
        serves = found is not None and process.ready()
        serving.append(serves)
        members = str(len(supervisor.members(process.name)))
        if found is None:
            table.add_row(process.name, "down", "", "", members, "", str(restarts[process.name]))
            continue
        age = f"{(time.time() - found.since) / 60:.1f} min"
        pid, doing = str(found.leader.pid), "serves" if serves else "starts"
        table.add_row(process.name, doing, found.address, pid, members, age, str(restarts[process.name]))
    console = Console()
    console.print(table)
    if happened:
        last = happened[-1]
        console.print(f"{last['at']} {last['name']} {last['event']}: {last['detail']}", markup=False, highlight=False)
    return 0 if all(serving) else 3


if __name__ == "__main__":
    sys.exit(main())
