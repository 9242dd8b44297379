"""A disk that is soon full. Only root may mount one; in CI, root must."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of that size at `path`; what it gives makes it larger."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True
    )
    if mounted.returncode:
        said = f"a small file system cannot be mounted here: {mounted.stderr.strip()}"
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,size={more}", path], check=True) and None
    finally:
        subprocess.run(["umount", path], check=True)
