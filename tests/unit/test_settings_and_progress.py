"""Settings come from MLOPS_ variables; progress is plain lines where there is no terminal."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from include import progress
from include.settings import Settings, local_path


def test_a_setting_is_read_from_its_variable(monkeypatch):
    monkeypatch.setenv("MLOPS_MODEL_NAME", "risk")
    assert Settings().model_name == "risk"


def test_a_wrong_setting_is_refused(monkeypatch):
    monkeypatch.setenv("MLOPS_RUNTIME", "mainframe")
    with pytest.raises(ValidationError, match="'local' or 'kubernetes'"):
        Settings()


def test_which_uris_are_folders():
    assert local_path("/data/lake") == Path("/data/lake")
    assert local_path("file:///data/lake") == Path("/data/lake")
    assert local_path("s3://bucket/lake") is None


def test_progress_yields_everything_and_says_the_end(caplog):
    caplog.set_level(logging.INFO)
    assert list(progress.track([1, 2, 3], "count")) == [1, 2, 3]
    assert "count: 3 done" in caplog.text


def test_progress_tells_how_far_it_is(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    list(progress.track(iter("ab"), "count", total=2))
    assert "count: 1 of 2" in caplog.text
