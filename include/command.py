"""The contract that every step keeps.

A step is a small command that a person can run by hand: ``python -m include.<room>.<step> --flag value --result FILE``.
Its arguments are one `StepArgs` model, its answer is one JSON object, and its exit code says whether a retry can help:

====  =====================================================================================
code  meaning
====  =====================================================================================
0     done; the answer is in the result file
1     failed for a reason that may pass (a server away, a disk full): a retry may help
2     bad input or configuration: a retry will not help; the message names value, rule and fix
3     the check ran and the answer is no
====  =====================================================================================
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from include.code_version import UNKNOWN, code_version

log = logging.getLogger("step")

DONE, FAILED, BAD_INPUT, REFUSED = 0, 1, 2, 3
EXPECTED_VERSION = "MLOPS_EXPECTED_CODE_VERSION"  # set by the DAG that starts the step
STARTED_BY = "MLOPS_STEP_STARTED_BY"  # set by a worker of this machine: the number of its process
PARENT_SECONDS = 1.0


class BadInput(Exception):
    """Input or configuration breaks a rule; say the value, the rule and the fix. Exit code 2."""


class Refused(Exception):
    """The check ran and the answer is no. Exit code 3.

    `answer` is what the step found; it is written to the result file like any other answer.
    """

    def __init__(self, message: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.answer = dict(answer or {})


class StepArgs(BaseSettings):
    """Base of every step's arguments: flags only. Settings of the deployment are in `include.settings`."""

    model_config = SettingsConfigDict(cli_kebab_case=True, cli_hide_none_type=True, extra="forbid", frozen=True)

    result: Path | None = Field(None, description="file that receives the answer as one JSON object")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read flags and nothing else: an environment variable that happens to be called AS_OF must not become one."""
        return (init_settings,)


Args = TypeVar("Args", bound=StepArgs)
Answer = BaseModel | Mapping[str, Any]


def run(step: Callable[[Args], Answer], argv: Sequence[str] | None = None) -> NoReturn:
    """Run `step` with the flags in `argv` (default: the process's own) and exit with the contract's code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "botocore", "matplotlib", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    args_type: type[Args] = step.__annotations__["args"]
    argv = list(sys.argv[1:] if argv is None else argv)
    result: Path | None = None
    try:
        args = CliApp.run(args_type, cli_args=argv)
        result = args.result
        _refuse_another_version()
        _end_with_the_worker()
        answer = step(args)
    except ValidationError as error:
        _finish(_result_flag(argv), {"error": _explain(error)}, BAD_INPUT)
    except BadInput as error:
        _finish(result, {"error": str(error)}, BAD_INPUT)
    except Refused as refusal:
        _finish(result, {**refusal.answer, "error": str(refusal)}, REFUSED)
    except Exception as error:
        log.exception("failed; a retry may help")
        _finish(result, {"error": f"{type(error).__name__}: {error}"}, FAILED)
    _finish(result, answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer, DONE)


def _refuse_another_version() -> None:
    expected = os.environ.get(EXPECTED_VERSION)
    ours = code_version()
    if expected and UNKNOWN not in (expected, ours) and expected != ours:
        raise BadInput(
            f"this step is of commit {ours}, the DAG that started it of commit {expected}; "
            f"build and push the image of {expected}, or trigger the DAG again so that it runs at {ours}"
        )


def _end_with_the_worker() -> None:
    """A worker that was killed cannot end its step, and nobody would know of what the step goes on doing."""
    if parent := os.environ.get(STARTED_BY):
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    log.error("the worker that started this step (process %d) is gone: ending", parent)
    os.killpg(os.getpgrp(), signal.SIGTERM)  # the worker gave the step a group of its own


def _finish(result: Path | None, answer: Mapping[str, Any], code: int) -> NoReturn:
    if code in (BAD_INPUT, REFUSED):
        log.error("%s", answer["error"])
    if result is not None:
        _write(result, json.dumps(answer, allow_nan=False, default=str))
    elif code == DONE:
        sys.stdout.write(json.dumps(answer, indent=2, default=str) + "\n")
    sys.exit(code)


def _write(path: Path, text: str) -> None:
    """Whoever reads the result sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".result-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


def _explain(error: ValidationError) -> str:
    """One line per bad flag: the flag, what was given, the rule."""
    lines = []
    for problem in error.errors(include_url=False):
        flag = "--" + ".".join(str(part) for part in problem["loc"]).replace("_", "-")
        given = "" if problem["type"] == "missing" else f" {problem['input']!r}"
        lines.append(f"{flag}{given}: {problem['msg']}")
    return "bad arguments: " + "; ".join(lines) + " (see --help)"


def _result_flag(argv: Sequence[str]) -> Path | None:
    """Where the answer was to go, when the arguments as a whole could not be read."""
    for flag, value in pairwise(argv):
        if flag == "--result":
            return Path(value)
    return None
