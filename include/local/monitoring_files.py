"""Write what Prometheus and Alertmanager read where they are containers beside the others (docker-compose.yaml).

`python -m include.local.monitoring_files --to DIR --replicas FILE --replica-cores 0.04`

The same rules, routes and targets as for plain processes, with the times that MLOPS_TIME_COMPRESSION divides. Each
server is reached by its name and on its default port.
"""

import argparse
import os
import sys
from pathlib import Path

from include.local import compression
from include.local.alertmanager_server import ROUTING, delivered_to_inbox
from include.local.prometheus_server import configuration_file, rule_files
from include.local.state import DEFAULT_PORTS, StackError


def main() -> int:
    """Exit code 0 when the files are there, 2 when the setting is wrong."""
    asked = _arguments()
    try:
        factor = compression.factor_of(os.environ.get(compression.SETTING, "1"))
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    addresses = {name: f"{name}:{port}" for name, port in DEFAULT_PORTS.items()}
    routing = compression.routing(ROUTING.read_text(), factor)
    files = {
        "prometheus.yaml": configuration_file(addresses, asked.replicas, factor),
        "alertmanager.yaml": delivered_to_inbox(routing, DEFAULT_PORTS["inbox"], DEFAULT_PORTS["inbox-smtp"], "inbox"),
        **rule_files(factor, asked.replica_cores),
    }
    for name, text in files.items():
        (asked.to / name).write_text(text)
        print(f"wrote {asked.to / name}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_argument
    given("--to", type=Path, required=True, help="folder that gets the files")
    given("--replicas", type=Path, required=True, help="where Prometheus finds the file that names the replicas")
    given("--replica-cores", type=float, required=True, help="cores that one replica of the model API is said to have")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
