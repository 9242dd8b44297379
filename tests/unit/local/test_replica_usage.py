"""Measuring real processes."""

import subprocess
import sys
import time

import pytest

from include.local.replica_usage import Meter

BUSY = "while True: pass"
IDLE = "import time; time.sleep(60)"


@pytest.fixture
def processes():
    started = [subprocess.Popen([sys.executable, "-S", "-c", program]) for program in (BUSY, IDLE)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_cpu_is_what_was_used_since_the_call_before(processes):
    busy, idle = processes
    meter = Meter()
    before = time.monotonic()
    first = meter.measure({busy.pid: before - 1, idle.pid: None})
    assert [(each.cpu, each.ready) for each in first] == [(None, True), (None, False)]
    time.sleep(1.0)
    became_ready = time.monotonic()
    hot, cold = meter.measure({busy.pid: before - 1, idle.pid: became_ready})
    assert hot.ready
    assert hot.cpu is not None
    assert 0.2 < hot.cpu < 1.1, "of one core; others use the machine too"
    assert cold.cpu is not None
    assert cold.cpu < 0.05
    assert not cold.ready, "it was not ready for the whole time that was measured"
    assert min(hot.memory or 0, cold.memory or 0) > 2**20


def test_what_has_no_process_has_no_figure(processes):
    busy, _ = processes
    busy.kill()
    busy.wait()
    meter = Meter()
    usages = meter.measure({busy.pid: 0.0}, pidless=1)
    assert [(each.cpu, each.memory, each.ready) for each in usages] == [(None, None, False)] * 2
