"""Wiring: flags, forms and outcomes."""

from datetime import date
from typing import Literal

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError
from pydantic import BaseModel, Field

from include.pipeline.flags import argv
from include.pipeline.form import form
from include.pipeline.outcome import StepBadInput, StepFailed, StepRefused, read_answer, settle
from include.pipeline.step import step


def test_flags_become_words():
    flags = {"as_of": "2025-06-29", "limit": None, "names": ["a"], "share": 0.5, "plan": {"x": 1}, "dry_run": True}
    assert argv("include.fraud.plan", flags) == [
        "-m", "include.fraud.plan", "--as-of", "2025-06-29", "--names", '["a"]', "--share", "0.5",
        "--plan", '{"x": 1}', "--dry-run", "true",
    ]  # fmt: skip


def test_an_unknown_profile_is_refused():
    with DAG("d", schedule=None), pytest.raises(ValueError, match="'huge' is not one of small"):
        step("t", "include.fraud.plan", {}, profile="huge")


@pytest.mark.parametrize(("code", "kind"), [(1, StepFailed), (2, StepBadInput), (3, StepRefused), (None, StepFailed)])
def test_outcomes(code, kind):
    with pytest.raises(kind, match="why"):
        settle("a step", code, {"error": "why"})


def test_done_is_done():
    settle("a step", 0, {})


def test_a_step_that_died_left_no_answer(tmp_path):
    assert read_answer(tmp_path / "none") == {}
    (tmp_path / "half").write_text('{"a": ')
    assert read_answer(tmp_path / "half") == {}


class Choice(BaseModel):
    """A form."""

    day: date | None = Field(None, title="Day", description="which")
    days: int = Field(7, ge=1, le=9)
    rule: Literal["better", "not_worse"] = "better"


def test_a_form_keeps_the_models_rules():
    fields = form(Choice)
    assert fields["day"].value is None
    assert fields["day"].schema["type"] == ["string", "null"]
    assert fields["day"].schema["format"] == "date"
    assert fields["day"].schema["title"] == "Day"
    assert fields["days"].value == 7
    assert fields["rule"].schema["enum"] == ["better", "not_worse"]
    for name, bad in (("days", 10), ("rule", "best"), ("day", "tomorrow")):
        with pytest.raises(ParamValidationError):
            fields[name].resolve(bad)
