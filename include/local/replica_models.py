"""The model folders of the replicas: fetched before a replica starts (a pod's init container), the last ones kept."""

import asyncio
import contextlib
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from include.local import replica_child

KEEP = 3
END_SECONDS = 5.0

FetchCommand = Callable[[str, Path], Sequence[str]]


class FetchFailed(Exception):
    """The version is not here; the message says what the fetch said last."""


class ModelFolders:
    """One folder per version under `root`. `fetch(version, folder)` is the command that fills one."""

    def __init__(self, root: Path, fetch: FetchCommand) -> None:
        self.root = root
        self._fetch = fetch
        self._fetching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._complete: set[str] = set()

    async def folder(self, version: str) -> Path:
        """The complete folder of the version. Raises FetchFailed, or OSError when no process can be started.

        Replicas that ask at the same time wait for one fetch.
        """
        folder = self.root / version
        async with self._fetching[version]:
            if version not in self._complete or not folder.exists():
                await self._fill(version, folder)
                self._complete.add(version)
            os.utime(folder)  # the order of use, for `prune`
        return folder

    def prune(self, needed: Iterable[str]) -> None:
        """Remove all but the versions needed now and the last ones used, `KEEP` in all."""
        kept = set(needed)
        folders = [each for each in self.root.iterdir() if each.is_dir()] if self.root.exists() else []
        for folder in sorted(folders, key=lambda each: each.stat().st_mtime, reverse=True):
            if folder.name not in kept and len(kept) >= KEEP:
                self._complete.discard(folder.name)
                shutil.rmtree(folder, ignore_errors=True)
            kept.add(folder.name)

    async def _fill(self, version: str, folder: Path) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        process = await replica_child.start(self._fetch(version, folder), stderr=PIPE)
        try:
            last = await _passed_on(process)
            code = await process.wait()
        finally:
            await replica_child.end(process, END_SECONDS)
        if code or not folder.exists():
            raise FetchFailed(f"fetching version {version} ended with exit code {code}: {last}")


async def _passed_on(process: Process) -> str:
    """Let the fetch's lines through to our own log; return the last one."""
    last = "it said nothing"
    assert process.stderr is not None, "asked for by PIPE"
    while True:
        with contextlib.suppress(ValueError):  # a line beyond the reader's limit
            line = await process.stderr.readline()
            if not line:
                return last
            text = line.decode(errors="replace").rstrip()
            print(text, file=sys.stderr, flush=True)
            last = text.strip() or last
