"""Which git commit this code is of.

A pod's image carries its commit in MLOPS_CODE_VERSION; a checkout tells it by its path (git-sync and Airflow's
GitDagBundle put the commit into the folder's name) or by its git folder. Nothing here runs git: DAG parsing calls it.
"""

import os
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNKNOWN = "unknown"
COMMIT = re.compile(r"^[0-9a-f]{40}$")


@cache
def code_version(root: Path = ROOT) -> str:
    """The commit (40 hex digits) of the code under `root`, or ``unknown``."""
    baked = os.environ.get("MLOPS_CODE_VERSION")
    if baked:
        return baked
    for part in reversed(root.parts):
        if COMMIT.match(part):
            return part
    git = root / ".git"
    if git.is_file():  # a linked worktree: ".git" is a file that names the real folder
        git = (root / git.read_text().removeprefix("gitdir:").strip()).resolve()
    head = _read(git / "HEAD")
    if not head.startswith("ref: "):
        return head or UNKNOWN
    ref = head.removeprefix("ref: ")
    common = _read(git / "commondir")
    shared = (git / common).resolve() if common else git
    return _read(shared / ref) or _packed(shared, ref) or UNKNOWN


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _packed(git: Path, ref: str) -> str:
    for line in _read(git / "packed-refs").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""
