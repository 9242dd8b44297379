"""All static checks of what is deployed: `python -m deploy.lint`, or with names of checks; `--list` tells them.

Exit code 0: nothing to complain about; 1: a check failed; 2: a program is missing, and how to get it is said.
What cannot be reached from here (a chart repository, a provider registry) is told as "not checked"; with --strict,
which CI on the open network uses, that is a failure.
"""

import argparse
import sys
import time
from pathlib import Path

from deploy.lint.charts import Refused, Tree
from deploy.lint.checks import CHECKS
from deploy.lint.tools import Missing, NotChecked, report_as_json

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 30
PASSED, FAILED, NOT_CHECKED, MISSING = "passed", "FAILED", "not checked", "MISSING"


def judge(name: str, tree: Tree) -> tuple[str, list[str]]:
    """A check's verdict, and what there is to say."""
    try:
        found = CHECKS[name](tree)
    except Missing as error:
        return MISSING, [str(error)]
    except NotChecked as error:
        return NOT_CHECKED, [str(error)]
    except Refused as error:
        return FAILED, [str(error)]
    return (FAILED if found else PASSED), found


def main(arguments: list[str]) -> int:
    """Run the checks, print the table."""
    parser = argparse.ArgumentParser(prog="python -m deploy.lint", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CHECK", help="the checks to run; none: all")
    parser.add_argument("--list", action="store_true", help="tell the checks")
    parser.add_argument("--strict", action="store_true", help="what was not checked is a failure")
    given = parser.parse_args(arguments)
    if strangers := set(given.names) - set(CHECKS):
        parser.error(f"no check is called {', '.join(sorted(strangers))}; there are {', '.join(CHECKS)}")
    if given.list:
        for name, check in CHECKS.items():
            say(f"{name:20} {(check.__doc__ or '').splitlines()[0]}")
        return 0
    tree = Tree(ROOT, ROOT / "build/lint")
    rows: list[dict[str, object]] = []
    for name in given.names or CHECKS:
        began = time.monotonic()
        verdict, said = judge(name, tree)
        rows.append({"check": name, "verdict": verdict, "seconds": round(time.monotonic() - began, 1), "said": said})
        say(f"{name:20} {verdict:12} {rows[-1]['seconds']:6} s" + (f"  {said[0]}" if verdict == NOT_CHECKED else ""))
        if verdict in (FAILED, MISSING):
            lines = [f"    {line}" for each in said for line in each.splitlines()]
            more = [f"    … {len(lines) - MOST_LINES} lines more in build/lint/summary.json"]
            say("\n".join(lines[:MOST_LINES] + more * (len(lines) > MOST_LINES)))
    report_as_json(rows, tree.cache / "summary.json")
    verdicts = [row["verdict"] for row in rows]
    if FAILED in verdicts or (given.strict and NOT_CHECKED in verdicts):
        return 1
    return 2 if MISSING in verdicts else 0


def say(line: str) -> None:
    """To whoever waits, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
