"""An attack as a person starts it, and a scorer that answers what a test asks for."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from include.code_version import ROOT

NOWHERE = "http://127.0.0.1:9"  # no Pushgateway and no Prometheus: an attack needs neither, unless it surges


class Attack:
    """`python -m include.loadtest.attack`, and its answer when it has ended."""

    def __init__(self, folder: Path, bootstrap: str, *flags: str, **environment: str) -> None:
        self.file = folder / "answer.json"
        self.log = folder / "attack.log"
        own = {"MLOPS_KAFKA_BOOTSTRAP": bootstrap, "MLOPS_ATTACK_BROKERS": bootstrap}
        own |= {"MLOPS_PUSHGATEWAY_URL": NOWHERE, "MLOPS_PROMETHEUS_URL": NOWHERE, "PYTHONPATH": str(ROOT)}
        name = f"test-{time.time_ns()}"
        command = [sys.executable, "-m", "include.loadtest.attack", "--run", name, "--result", str(self.file), *flags]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | own | environment, cwd=ROOT, stdout=log, stderr=log
            )

    def said(self, words: str, seconds: float = 60.0) -> None:
        """Wait until its log has the words."""
        until = time.monotonic() + seconds
        while words not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < until, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def ended(self, seconds: float = 180.0) -> tuple[int, dict]:
        """Exit code and answer."""
        code = self.process.wait(timeout=seconds)
        return code, json.loads(self.file.read_text())


@pytest.fixture
def attack(tmp_path):
    """Start an attack; what still runs at the end of the test is ended."""
    started = []

    def start(bootstrap, *flags, **environment):
        started.append(Attack(tmp_path, bootstrap, *flags, **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def scorer(tmp_path):
    """Start the stand-in for the scorer."""
    started = []

    def start(bootstrap, *flags):
        code = str(Path(__file__).parent / "fake_scorer.py")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (tmp_path / "scorer.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, code, bootstrap, *flags], env=environment, stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
