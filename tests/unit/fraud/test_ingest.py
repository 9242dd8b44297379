"""The step that fills the lake: whole days, the same bytes each time, nothing of a broken day."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.code_version import ROOT
from include.command import BadInput
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.schema import TRANSACTIONS
from include.fraud.sources import open_source
from tests.unit.fraud.conftest import START, Delivered, day


def files(folder: str | Path) -> dict[str, str]:
    """Every file below the folder and the digest of its bytes."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def step(lake: Path, *flags: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "include.fraud.ingest", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLOPS_LAKE_URI": str(lake), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_answer_tells_what_was_done(lake, small):
    answer = fill(lake, small, START, day(9))
    assert answer["days"] == 10
    assert answer["rows"] == lake.transactions(START, day(9)).height
    assert answer["quarantined"] == {}
    assert (answer["first"], answer["last"]) == ("2018-04-01", "2018-04-10")


def test_again_or_in_another_order_gives_the_same_bytes(lake, small, tmp_path):
    answer = fill(lake, small, START, day(9))
    once = files(lake.uri)
    assert fill(lake, small, START, day(9)) == answer
    assert files(lake.uri) == once
    backwards = Lake(str(tmp_path / "backwards"))
    for number in reversed(range(10)):
        fill(backwards, small, day(number), day(number))
    assert files(backwards.uri) == once


def test_the_digest_changes_with_the_content(lake, small, tmp_path):
    frame = small.day(START)
    other = frame.with_columns(tx_amount=pl.col("tx_amount") + 1)
    answers = [fill(lake, Delivered({START: given}), START, START)["digest"] for given in (frame, other)]
    assert answers[0] != answers[1]


def test_labels_come_a_week_later_and_only_for_good_transactions(lake, small):
    frame = small.day(START)
    spoilt = frame.with_columns(
        tx_amount=pl.when(pl.int_range(pl.len()) == 5).then(-1.0).otherwise("tx_amount"),
    )
    fill(lake, Delivered({START: spoilt, day(7): small.day(day(7))}), day(7), day(7))
    known = lake.labels(day(7), START, START)
    assert (
        known["transaction_id"].to_list()
        == frame["transaction_id"].gather([n for n in range(frame.height) if n != 5]).to_list()
    )


def test_a_repeated_row_has_one_label(small, lake, deliver):
    days = pl.concat([small.day(START), small.day(START).head(1), small.day(day(7))])
    fill(lake, open_source(deliver(days)), day(7), day(7))
    assert_frame_equal(lake.labels(day(7), START, START), small.labels(START))


def test_bad_rows_go_to_quarantine_and_are_counted(lake, small):
    frame = small.day(START)
    place = pl.int_range(pl.len())
    spoilt = pl.concat([frame, frame.head(1)]).with_columns(
        tx_amount=pl.when(place == 3).then(float("nan")).when(place == 4).then(-2.0).otherwise("tx_amount"),
    )
    answer = fill(lake, Delivered({START: spoilt}), START, START)
    assert answer["quarantined"] == {"amount_not_a_number": 1, "negative_amount": 1, "repeated": 1}
    assert answer["rows"] == frame.height - 2 == lake.transactions(START, START).height
    assert sorted(lake.quarantine(START)["reason"]) == ["amount_not_a_number", "negative_amount", "repeated"]


def test_a_day_with_too_many_bad_rows_leaves_the_lake_untouched(lake, small):
    fill(lake, Delivered({START: small.day(START)}), START, START)
    before = files(lake.uri)
    spoilt = small.day(START).with_columns(tx_amount=-pl.col("tx_amount"))
    with pytest.raises(BadInput, match=r"rows are bad \(negative_amount \d+\), more than 1%; nothing was written"):
        fill(lake, Delivered({START: spoilt}), START, START)
    assert files(lake.uri) == before


def test_days_before_a_broken_one_are_kept(lake, small):
    source = Delivered({START: small.day(START), day(1): small.day(day(1)).clear()})
    with pytest.raises(BadInput, match="2018-04-02: the source has no transaction of that day"):
        fill(lake, source, START, day(1))
    assert lake.days() == lake.label_days() == [START]


def test_the_wrong_way_round_is_refused(lake, small):
    with pytest.raises(BadInput, match="--first 2018-04-02 is after --last 2018-04-01; swap them"):
        fill(lake, small, day(1), START)


def test_a_killed_run_that_runs_again_gives_the_bytes_of_one_run(tmp_path):
    span = ("--first", "2018-04-01", "--last", "2018-05-10")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run = step(killed, *span)
    while len(list(killed.glob("transactions/*/data.parquet"))) < 5:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    days = len(Lake(str(killed)).days())
    assert 5 <= days < 40
    assert Lake(str(killed)).transactions(START, day(days - 1)).height > 0  # what is there is whole
    for lake in (killed, whole):
        assert step(lake, *span, "--result", str(lake / "answer.json")).wait() == 0
    assert files(killed) == files(whole)
    assert not list(killed.rglob(".*"))


@pytest.mark.parametrize(
    ("flags", "source", "message"),
    [
        (("--first", "2018-04-02", "--last", "2018-04-01"), "simulator", "--first 2018-04-02 is after"),
        (("--first", "2018-13-01", "--last", "2018-04-01"), "simulator", "--first '2018-13-01'"),
        (("--first", "2018-04-01"), "simulator", "--last"),
        (("--first", "2018-04-01", "--last", "2018-04-01"), "nowhere/*.parquet", "nowhere/*.parquet: no file matches"),
    ],
)
def test_bad_input_exits_2_and_says_so_in_the_result(flags, source, message, tmp_path):
    result = tmp_path / "answer.json"
    run = step(tmp_path / "lake", *flags, "--result", str(result), MLOPS_SOURCE=source)
    assert run.wait() == 2
    assert message in json.loads(result.read_text())["error"]
    assert not (tmp_path / "lake").exists()


def test_a_file_is_ingested_as_its_own_days(tmp_path, small, deliver):
    path = deliver(pl.concat(small.day(day(number)) for number in range(9)).rename(str.upper))
    run = step(tmp_path / "lake", "--first", "2018-04-01", "--last", "2018-04-09", MLOPS_SOURCE=path)
    assert run.wait() == 0
    lake = Lake(str(tmp_path / "lake"))
    assert lake.transactions(START, day(8)).equals(
        pl.concat(small.transactions(day(number)) for number in range(9)).select(*TRANSACTIONS)
    )
    assert lake.labels(day(8)).equals(pl.concat(small.labels(day(number)) for number in range(2)))
