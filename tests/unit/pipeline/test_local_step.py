"""A step as a child process: answer, failure, and nothing left behind when the task is killed."""

import subprocess
import sys
import threading
import time

import psutil
import pytest
from airflow.sdk import Asset

from include.pipeline import local_step
from include.pipeline.local_step import LocalStep
from include.pipeline.outcome import StepBadInput, StepFailed


class Event:
    extra: dict | None = None


class TaskInstance:
    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def context(operator):
    """What Airflow hands to a task, as far as a step looks at it."""
    return {"task": operator, "ti": TaskInstance(), "outlet_events": {asset: Event() for asset in operator.outlets}}


def test_the_answer_is_returned_and_announced():
    asset = Asset("a", uri="mlops://a")
    operator = LocalStep(
        task_id="plan",
        module="include.fraud.plan",
        flags={"as_of": "2025-06-29", "form": {"rule": "not_worse"}},
        outlets=[asset],
    )
    given = context(operator)
    answer = operator.execute(given)
    assert answer["rule"] == "not_worse"
    assert given["outlet_events"][asset].extra == answer


def test_bad_input_reaches_the_task_with_its_message():
    operator = LocalStep(
        task_id="plan", module="include.fraud.plan", flags={"as_of": "2025-06-29", "form": {"gap_days": 3}}
    )
    given = context(operator)
    with pytest.raises(StepBadInput, match="gap_days=3"):
        operator.execute(given)
    assert "gap_days=3" in given["ti"].pushed["return_value"]["error"]


def test_a_mapped_instance_adds_its_own_flag():
    operator = LocalStep(
        task_id="plan", module="include.fraud.plan", flags={"as_of": "2025-06-29"}, each={"form": {"train_days": 14}}
    )
    assert operator.execute(context(operator))["fold"]["train_days"] == 14


def test_a_killed_task_leaves_no_process(tmp_path, monkeypatch):
    """The step here starts a child of its own, as a training that uses several processes would."""
    (tmp_path / "sleeper.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    )
    monkeypatch.setattr(local_step, "ROOT", tmp_path)
    operator = LocalStep(task_id="sleep", module="sleeper", flags={})
    outcome = []

    def work():
        try:
            operator.execute(context(operator))
        except StepFailed as failure:
            outcome.append(failure)

    worker = threading.Thread(target=work)
    worker.start()
    deadline = time.monotonic() + 30
    family = []
    while len(family) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        child = operator.process.sub_process
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)] if child else []
    assert len(family) == 2
    operator.on_kill()
    worker.join(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    assert outcome, "a killed step is a failure that a retry may cure"


def test_a_step_ends_with_a_worker_that_was_killed(tmp_path):
    """SIGKILL leaves the worker no time to end its step, and nobody else knows of it."""
    (tmp_path / "endless.py").write_text(
        "import pathlib, time, os\nfrom include.command import StepArgs, run\n"
        "class Args(StepArgs):\n    file: pathlib.Path\n"
        "def main(args: Args):\n    args.file.write_text(str(os.getpid()))\n    time.sleep(600)\n"
        "run(main)\n"
    )
    note = tmp_path / "pid"
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path\nfrom include.pipeline import local_step\n"
            "local_step.argv = lambda module, flags: [sys.argv[2], '--file', sys.argv[3]]\n"
            "local_step.LocalStep(task_id='endless', module='endless', flags={}).execute({})\n",
            *(str(local_step.ROOT), str(tmp_path / "endless.py"), str(note)),
        ]
    )
    deadline = time.monotonic() + 60
    while not note.exists() or not note.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    step = psutil.Process(int(note.read_text()))
    worker.kill()
    worker.wait()
    step.wait(timeout=30)
