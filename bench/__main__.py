"""Run the benchmarks, each as a process of its own: ``python -m bench [NAME]``. Exit code 1 when one misses a goal."""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RUNS_ALONE = 'if __name__ == "__main__":'


def main() -> int:
    """Exit code 0 when every benchmark reached its goals, 2 when there is none of that name."""
    names = sorted(file.stem for file in HERE.glob("[!_]*.py") if RUNS_ALONE in file.read_text())
    asked = sys.argv[1:] or names
    if unknown := set(asked) - set(names):
        known = ", ".join(names) or "none yet"
        print(f"no benchmark {', '.join(sorted(unknown))} in bench/; there are: {known}", file=sys.stderr)
        return 2
    missed = [name for name in asked if not _reached_goals(name)]
    if missed:
        print(f"missed or failed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _reached_goals(name: str) -> bool:
    print(f"=== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=HERE.parent).returncode
    print(f"=== {name}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
