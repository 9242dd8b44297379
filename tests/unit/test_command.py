"""The step contract, through real child processes: what a DAG sees is exit code, result file and log."""

import json
import os
import subprocess
import sys

import pytest

from include.code_version import ROOT, UNKNOWN, code_version

STEP = '''
"""A step for the tests."""
from datetime import date
from pydantic import BaseModel
from include.command import BadInput, Refused, StepArgs, run

class Window(BaseModel):
    first: date
    last: date

class Args(StepArgs):
    """Try the contract."""
    as_of: date
    window: Window | None = None
    names: list[str] = []
    outcome: str = "done"

def main(args: Args) -> dict:
    if args.outcome == "bad":
        raise BadInput("amount=-1: must not be negative; correct the source")
    if args.outcome == "no":
        raise Refused("the answer is no", {"measured": 0.4})
    if args.outcome == "crash":
        raise ConnectionError("the server is away")
    return {"as_of": args.as_of, "names": args.names, "window": args.window and args.window.model_dump(mode="json")}

if __name__ == "__main__":
    run(main)
'''


@pytest.fixture
def step(tmp_path):
    """Run the step with flags; returns the finished process and the answer."""
    (tmp_path / "tried.py").write_text(STEP)

    def run(*flags: str, **env: str):
        result = tmp_path / "deep" / "result.json"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])} | env
        command = [sys.executable, "-m", "tried", *flags, "--result", str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done, json.loads(result.read_text()) if result.exists() else None

    return run


def test_the_answer_is_one_json_object(step):
    window = '{"first": "2025-01-01", "last": "2025-01-07"}'
    done, answer = step("--as-of", "2025-06-29", "--names", '["a", "b"]', "--window", window)
    assert done.returncode == 0, done.stderr
    assert answer == {"as_of": "2025-06-29", "names": ["a", "b"], "window": json.loads(window)}


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        ("bad", 2, "amount=-1: must not be negative; correct the source"),
        ("no", 3, "the answer is no"),
        ("crash", 1, "the server is away"),
    ],
)
def test_exit_codes(step, outcome, code, said):
    done, answer = step("--as-of", "2025-06-29", "--outcome", outcome)
    assert done.returncode == code
    assert said in answer["error"]
    assert said in done.stderr


def test_a_refusal_keeps_what_was_found(step):
    _, answer = step("--as-of", "2025-06-29", "--outcome", "no")
    assert answer["measured"] == 0.4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--as-of", "yesterday"], "--as-of 'yesterday'"),
        ([], "--as-of: Field required"),
        (["--as-of", "2025-06-29", "--window", '{"first": "2025-01-01"}'], "--window.last: Field required"),
    ],
)
def test_bad_flags_are_named(step, flags, said):
    done, answer = step(*flags)
    assert done.returncode == 2
    assert said in answer["error"]


def test_an_unknown_flag_is_bad_input(step):
    done, _ = step("--as-of", "2025-06-29", "--colour", "red")
    assert done.returncode == 2
    assert "--colour" in done.stderr


def test_an_environment_variable_is_not_a_flag(step):
    done, answer = step(AS_OF="2025-06-29")
    assert done.returncode == 2
    assert "--as-of" in answer["error"]


def test_a_step_of_another_commit_is_refused(step):
    ours, theirs = "a" * 40, "b" * 40
    done, answer = step("--as-of", "2025-06-29", MLOPS_CODE_VERSION=ours, MLOPS_EXPECTED_CODE_VERSION=theirs)
    assert done.returncode == 2
    assert ours in answer["error"]
    assert theirs in answer["error"]
    done, _ = step("--as-of", "2025-06-29", MLOPS_CODE_VERSION=ours, MLOPS_EXPECTED_CODE_VERSION=ours)
    assert done.returncode == 0


def commit(folder) -> str:
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (folder / "file").write_text("x")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_the_version_of_a_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("MLOPS_CODE_VERSION", raising=False)
    head = commit(tmp_path)
    assert code_version.__wrapped__(tmp_path) == head
    subprocess.run(["git", "-C", str(tmp_path), "pack-refs", "--all"], check=True)
    assert code_version.__wrapped__(tmp_path) == head
    subprocess.run(["git", "-C", str(tmp_path), "worktree", "add", "-q", str(tmp_path / "tree"), "-b", "x"], check=True)
    assert code_version.__wrapped__(tmp_path / "tree") == head
    subprocess.run(["git", "-C", str(tmp_path), "checkout", "-q", "--detach"], check=True)
    assert code_version.__wrapped__(tmp_path) == head


def test_the_version_of_a_synced_folder_is_in_its_name(tmp_path, monkeypatch):
    monkeypatch.delenv("MLOPS_CODE_VERSION", raising=False)
    assert code_version.__wrapped__(tmp_path / ("c" * 40) / "repo") == "c" * 40
    assert code_version.__wrapped__(tmp_path) == UNKNOWN
