"""Fetching the versions' folders, with real processes."""

import asyncio
import os
import sys

import psutil
import pytest

from include.local.replica_models import FetchFailed, ModelFolders

COUNTED = """
import pathlib, sys, time
folder, counter = map(pathlib.Path, sys.argv[1:])
time.sleep(0.2)
with counter.open("a") as file:
    file.write(folder.name + "\\n")
folder.mkdir(exist_ok=True)
"""


@pytest.fixture
def counter(tmp_path):
    return tmp_path / "fetched"


@pytest.fixture
def models(tmp_path, counter):
    def fetch(version, folder):
        return [sys.executable, "-S", "-c", COUNTED, str(folder), str(counter)]

    return ModelFolders(tmp_path / "models", fetch)


def failing(tmp_path, program):
    return ModelFolders(tmp_path / "models", lambda version, folder: [sys.executable, "-S", "-c", program])


def test_who_asks_at_the_same_time_waits_for_one_fetch(models, counter):
    async def four():
        return await asyncio.gather(*(models.folder("3") for _ in range(4)))

    assert asyncio.run(four()) == [models.root / "3"] * 4
    assert counter.read_text() == "3\n"


def test_a_folder_that_was_removed_is_fetched_again(models, counter):
    async def twice():
        (await models.folder("3")).rmdir()
        await models.folder("3")

    asyncio.run(twice())
    assert counter.read_text() == "3\n3\n"


def test_failure_says_what_the_fetch_said_last(tmp_path):
    models = failing(tmp_path, "import sys; print('no version 3 of fraud', file=sys.stderr); sys.exit(2)")
    with pytest.raises(FetchFailed, match="version 3 ended with exit code 2: no version 3 of fraud"):
        asyncio.run(models.folder("3"))


def test_a_fetch_that_leaves_no_folder_failed(tmp_path):
    with pytest.raises(FetchFailed, match="exit code 0"):
        asyncio.run(failing(tmp_path, "").folder("3"))


def test_a_fetch_that_nobody_waits_for_any_more_is_ended(tmp_path):
    models = failing(tmp_path, "import time; time.sleep(60)")
    before = set(psutil.Process(os.getpid()).children())  # servers of other tests

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(models.folder("3"), 0.5)

    asyncio.run(give_up())
    assert set(psutil.Process(os.getpid()).children()) <= before


def test_three_versions_are_kept_and_all_that_are_needed(models):
    for age, version in enumerate(["6", "5", "4", "3", "2"]):
        (models.root / version).mkdir(parents=True)
        os.utime(models.root / version, (1000 - age, 1000 - age))
    models.prune(needed=["2"])
    assert {each.name for each in models.root.iterdir()} == {"2", "5", "6"}
    models.prune(needed=["2", "5", "6", "7"])
    assert {each.name for each in models.root.iterdir()} == {"2", "5", "6"}
