"""Parsing all DAG files against the bare import of what any of them needs: `python -m bench.parse`.

Fresh processes, taken in turns, steps as pods. Only the time inside the process counts: Python's own start is the same
for both.
"""

import os
import subprocess
import sys

from bench.report import Report
from include.code_version import ROOT

ROUNDS = 9
GOAL = 1.15
TIMED = """
import sys, time
began = time.perf_counter()
{what}
print(time.perf_counter() - began)
"""
BARE = "import airflow.sdk\nimport airflow.providers.cncf.kubernetes.operators.pod"
PARSE = "import runpy\nfor path in sys.argv[1:]:\n    runpy.run_path(path)"


def seconds(what: str, *arguments: str) -> float:
    """The time that `what` takes in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLOPS_RUNTIME": "kubernetes"}
    command = [sys.executable, "-c", TIMED.format(what=what), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure in turns and report the ratio of the medians."""
    files = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    seconds(PARSE, *files)  # byte code written, disk warm
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(seconds(BARE))
        ours.append(seconds(PARSE, *files))
    report = Report("parse")
    base = report.row("bare import of airflow.sdk and the pod operator", "time", "s", bare)
    parsed = report.row(f"all {len(files)} DAG files", "time", "s", ours)
    ratio = report.ratio("DAG files / bare import", parsed / base)
    report.goal("DAG files / bare import", GOAL, round(ratio, 3), ratio <= GOAL)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
