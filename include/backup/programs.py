"""PostgreSQL's own programs, in the version that a server needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from include.command import BadInput

FOLDERS = "usr/lib/postgresql/*/bin"  # below /: where Debian and Ubuntu keep one folder for each major version
WRAPPER = "pg_wrapper"  # what these two put into PATH: it chooses a version by rules of its own


def program(name: str, at_least: int) -> str:
    """The path of `name` (`pg_dump`) for servers of the major version `at_least`.

    Of those new enough it is the oldest: a newer one may write what the server's own version cannot read. Among equals,
    the first in PATH. Raises BadInput with the package to install when there is none.
    """
    found = {path: major(path) for path in _paths(name)}
    usable = [path for path, version in found.items() if version >= at_least]
    if usable:
        return min(usable, key=lambda path: found[path])
    have = ", ".join(f"{path} is of version {version}" for path, version in found.items()) or "there is none"
    raise BadInput(
        f"{name} of PostgreSQL {at_least} or newer is needed, and {have}; install it "
        f"(Debian and Ubuntu: apt-get install {package(name)}-{at_least}) or put its folder into PATH"
    )


def package(name: str) -> str:
    """The package of Debian, without version, that brings the program."""
    return "postgresql" if name in ("initdb", "postgres", "pg_ctl") else "postgresql-client"


def major(path: str) -> int:
    """The major version of the program at `path`; 0 when it does not say one."""
    found = re.search(r"\(PostgreSQL\) (\d+)", said_version(path))
    return int(found[1]) if found else 0


@cache
def said_version(path: str) -> str:
    """What `path --version` says: `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; empty when it fails."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _paths(name: str) -> Iterator[str]:
    beside = sorted(map(str, Path("/").glob(FOLDERS)), reverse=True)
    for folder in (*os.environ.get("PATH", os.defpath).split(os.pathsep), *beside):
        path = shutil.which(name, path=folder)
        if path and Path(path).resolve().name != WRAPPER:
            yield path
