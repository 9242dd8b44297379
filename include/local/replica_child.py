"""Starting and ending one child process of the replicas' supervisor."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from include.code_version import ROOT

GUARD = Path(__file__).with_name("replica_guard.py")


async def start(argv: Sequence[str], pass_fds: Sequence[int] = (), stderr: int | None = None) -> Process:
    """Start `argv` so that it dies with this process. Raises OSError when the machine has no room for it."""
    guarded = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *argv]
    return await asyncio.create_subprocess_exec(
        *guarded, stdin=DEVNULL, stderr=stderr, pass_fds=tuple(pass_fds), cwd=ROOT
    )


async def end(process: Process, grace: float) -> None:
    """Ask it to end, kill it after `grace` seconds, and wait until it has gone."""
    _signal(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()


def _signal(process: Process, sign: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it ended meanwhile
            process.send_signal(sign)
