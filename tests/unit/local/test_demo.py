"""The demo's days, its verdicts and its summary."""

import io
import json
from collections import Counter
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import get_args

import polars as pl
import pytest
from rich.console import Console

from include.fraud.evaluation import Decision
from include.fraud.form import RetrainForm
from include.fraud.metrics import Metrics
from include.fraud.plan import plan
from include.local.dag_runs import DagRun
from include.local.demo_backup import BackupDemo
from include.local.demo_days import demo_days
from include.local.demo_drill import DrillDemo
from include.local.demo_redeploy import RedeployDemo, judge_traffic
from include.local.demo_report import METRICS, Shown, good, show, write
from include.local.demo_retrain import DECISIONS, Retrain, RetrainDemo, Verdict, judge
from include.local.state import StackError
from include.local.traffic import Sent


def shown(retrains=None, rollouts=None, drill=None) -> Shown:
    return Shown(
        retrains or RetrainDemo([], [], []), rollouts or RedeployDemo(set()), BackupDemo(), drill or DrillDemo()
    )


TASK = {"task_id": "train", "map_index": 0, "state": "success", "duration": 1.5, "try_number": 1}


def parquet(path, first: date, last: date, column="TX_DATETIME"):
    days = [datetime(day.year, day.month, day.day, 12) for day in pl.date_range(first, last, eager=True)]
    pl.DataFrame({column: days}).write_parquet(path)
    return str(path)


def retrain(decision, promotion=None) -> Retrain:
    evaluation = {"decision": decision, "verdict": "It is better.", "winner": "random_forest"}
    return Retrain(date(2025, 6, 29), [{"candidate": "random_forest"}], evaluation, promotion, 60.0)


def test_simulator_days_are_fixed():
    days = demo_days(None)
    assert (days.first, days.as_of, days.next_as_of) == (date(2025, 4, 12), date(2025, 6, 29), date(2025, 7, 6))


@pytest.mark.parametrize("column", ["TX_DATETIME", "tx_datetime"])
def test_files_are_used_to_their_last_day(tmp_path, column):
    parquet(tmp_path / "a.parquet", date(2018, 4, 1), date(2018, 8, 31), column)
    parquet(tmp_path / "b.parquet", date(2018, 9, 1), date(2018, 9, 4), column)
    days = demo_days(str(tmp_path / "*.parquet"))
    assert (days.first, days.as_of, days.next_as_of) == (date(2018, 6, 11), date(2018, 8, 28), date(2018, 9, 4))


def test_too_few_days_are_refused(tmp_path):
    last = date(2018, 9, 4)
    enough = parquet(tmp_path / "enough.parquet", last - timedelta(days=85), last)
    assert demo_days(enough).first == last - timedelta(days=85)
    short = parquet(tmp_path / "short.parquet", last - timedelta(days=84), last)
    with pytest.raises(StackError, match="need 86 days, from 2018-06-11"):
        demo_days(short)


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(StackError, match=r"no-such.*give a path or a quoted glob"):
        demo_days(str(tmp_path / "no-such.parquet"))
    with pytest.raises(StackError, match="no column tx_datetime"):
        demo_days(parquet(tmp_path / "other.parquet", date(2018, 1, 1), date(2018, 1, 2), "when"))


def test_first_day_is_the_first_that_a_retrain_reads():
    days = demo_days(None)
    assert days.first == plan(days.as_of, RetrainForm()).first_read


@pytest.mark.parametrize(
    ("decision", "promotion", "must_promote", "good"),
    [
        ("promote", {"version": 1}, True, True),
        ("promote", {"version": 2}, False, True),
        ("promote", None, False, False),
        ("keep", None, False, True),
        ("unchanged", None, False, True),
        ("perhaps", None, False, False),
        ("keep", None, True, False),
        (None, None, False, False),
    ],
)
def test_judgement(decision, promotion, must_promote, good):
    verdict = judge(retrain(decision, promotion), must_promote)
    assert verdict.good is good
    assert "It is better." in verdict.said


def test_answers_are_read_by_the_names_they_have():
    assert set(DECISIONS) == set(get_args(Decision))
    assert set(METRICS) <= {field.name for field in fields(Metrics)}


def test_table_fits_a_terminal_of_80_columns(tmp_path):
    figures = dict.fromkeys(METRICS, 0.7064)
    candidate = {"candidate": "logistic_regression", "validation": figures, "test": figures, "train_seconds": 123.4}
    found = Retrain(date(2025, 6, 29), [candidate], {"winner": "logistic_regression"}, None, 60.0)
    console = Console(width=80, record=True, file=io.StringIO())
    show(shown(RetrainDemo([], [found], [])), {}, console)
    said = console.export_text()
    assert "logistic_regression *" in said
    assert said.count("0.706") == 6


def test_summary_says_what_happened(tmp_path):
    run = DagRun("retrain_model", "manual__1", {"as_of": "2025-06-29"}, "success", 61.2, [TASK])
    demo = RetrainDemo([run], [retrain("promote", {"version": 1})], [Verdict("retrain", True, "It is better.")])
    sent = Sent(3, Counter({"ReadError": 1}), Counter({"1": 2}), 0, [0.1, 0.2])
    rollouts = RedeployDemo(set(), reports=[{"version": "1"}], sent=sent)
    file = write(shown(demo, rollouts), "simulator", {"Airflow": "http://127.0.0.1:8080"}, {"demo": 70.04}, tmp_path)
    summary = json.loads(file.read_text())
    assert summary["good"] is True
    assert summary["steps"][0]["tasks"] == [{"task": "train", "map_index": 0, "state": "success", "seconds": 1.5}]
    assert summary["retrains"][0]["evaluation"]["decision"] == "promote"
    assert summary["rollouts"] == [{"version": "1"}]
    assert (summary["traffic"]["requests"], summary["traffic"]["failed"]) == (3, 1)
    assert summary["durations"] == {"demo": 70.0}


def test_nothing_shown_is_not_good():
    assert not good(shown())
    assert good(shown(), so_far=True)
    half = shown(RetrainDemo([], [], [Verdict("a", True, ""), Verdict("b", False, "")]))
    assert not good(half)
    assert not good(half, so_far=True)


def test_a_drill_is_shown_link_by_link_and_judged_like_the_rest():
    links = [
        {"link": "six replicas", "at": 1_800_000_007.25, "expected": None, "measured": 7.12},
        {"link": "mail received", "at": None, "expected": 25.0, "measured": None},
    ]
    judged = {"drill": "manual", "verdict": "NOT_DELIVERED", "links": links, "report": "http://127.0.0.1/report"}
    drilled = shown(drill=DrillDemo(judged=[judged], verdicts=[Verdict("attack and page", False, "no mail")]))
    console = Console(width=100, record=True, file=io.StringIO())
    show(drilled, {}, console)
    said = console.export_text()
    assert "NOT_DELIVERED" in said
    assert "six replicas" in said
    assert "08:00:07.2" in said
    assert "7.1" in said
    assert "never" in said
    assert not good(drilled)


@pytest.mark.parametrize(
    ("sent", "is_good"), [(Sent(5), True), (Sent(5, Counter(ReadError=1)), False), (Sent(), False)]
)
def test_one_lost_request_is_not_good(sent, is_good):
    rollouts = RedeployDemo(set())
    judge_traffic(rollouts, sent)
    assert good(shown(rollouts=rollouts)) is is_good
