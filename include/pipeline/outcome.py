"""What a step's exit code means for its Airflow task (the codes are those of `include.command`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException

from include.command import BAD_INPUT, DONE, REFUSED


class StepFailed(AirflowException):
    """The step failed for a reason that may pass; the task is tried again."""


class StepBadInput(AirflowException):
    """The step's input or configuration breaks a rule; a retry cannot help."""


class StepRefused(AirflowException):
    """The step's check ran and the answer is no; a retry cannot help."""


def read_answer(path: Path) -> dict[str, Any]:
    """The JSON object a step wrote, or an empty one where it died before it could."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def settle(what: str, exit_code: int | None, answer: Mapping[str, Any] | None) -> None:
    """Return when the step is done; otherwise raise what its exit code asks for."""
    if exit_code == DONE:
        return
    why = (answer or {}).get("error") or "see the log above"
    failure = {BAD_INPUT: StepBadInput, REFUSED: StepRefused}.get(exit_code or -1, StepFailed)
    raise failure(f"{what} exited with {exit_code}: {why}")


def announce(context: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Make the answer of a step the extra of the asset events that its task emits."""
    for asset in context["task"].outlets:
        context["outlet_events"][asset].extra = dict(answer)
