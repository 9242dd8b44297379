"""The real supervisor with stand-in replicas, a stand-in fetch (a copy out of STAND_IN_REGISTRY) and short times."""

import os
import sys
from pathlib import Path

from include.local.replica import Timing
from include.local.replicas import main

REPLICA = Path(__file__).with_name("stand_in_replica.py")
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"
QUICK = Timing(
    starting=0.05,
    ready_period=0.1,
    health_period=0.3,
    timeout=1.0,
    start_limit=10.0,
    grace=2.5,
    backoff_first=0.4,
    backoff_most=1.0,
    autoscale=1.0,
)


def replica_command(folder, fd, probe_port):
    return [sys.executable, "-S", str(REPLICA), str(folder), str(fd), str(probe_port)]


def fetch_command(version, folder):
    return [sys.executable, "-S", "-c", COPY, f"{os.environ['STAND_IN_REGISTRY']}/{version}", str(folder)]


if __name__ == "__main__":
    sys.exit(main(replica_command, fetch_command, QUICK))
