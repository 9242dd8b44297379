"""What must still be there after something went wrong."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from include.backup.catalogue import choose
from include.backup.manifest import VERIFIED, Verified, folder_of
from include.backup.programs import program
from include.backup.store import store
from tests.integration.backup.conftest import Room


def mark(room: Room, stem: str, service: str = "shop") -> None:
    """Say that it was verified, in no time."""
    sha256 = choose(store(room.uri), service, stem).manifest.sha256
    verified = Verified(stem=stem, sha256=sha256, at=time.time(), seconds=1, server_version="15", compared=2)
    store(room.uri).write_text(f"{folder_of(service)}/{stem}{VERIFIED}", verified.model_dump_json())


def still_good(room: Room, stem: str, service: str = "shop") -> None:
    """It is what `latest` gives, byte for byte what it was, and pg_restore reads it."""
    backup = choose(store(room.uri), service, "latest")
    assert backup.manifest.stem == stem
    path = Path(room.uri) / folder_of(service) / backup.manifest.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == backup.manifest.sha256
    listed = subprocess.run([program("pg_restore", 15), "--list"], input=gzip.decompress(path.read_bytes()), check=True,
                            capture_output=True).stdout  # fmt: skip
    assert b"TABLE DATA public customers" in listed


def ended_at(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that is killed (SIGKILL) just before its step of that number; False when it had no more.

    Steps are what changes files or starts programs: each opening, renaming, deleting, creating of folders, each fsync.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            _kill_at(step)
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _kill_at(step: int) -> None:
    left, parent = [step], os.getpid()

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if os.getpid() != parent or not _changes_files(event, arguments):
            return
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    fsync = os.fsync

    def counted_fsync(handle: int) -> None:
        count("os.fsync", ())
        fsync(handle)

    os.fsync = counted_fsync  # type: ignore[assignment]


def _changes_files(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    return event in {"os.fsync", "os.rename", "os.remove", "os.mkdir", "subprocess.Popen"}
