"""Partitions: written whole or not at all, read by day, never of a day that is not there."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.command import BadInput
from include.fraud.ingest import fill
from include.fraud.lake import Lake, days_between
from include.fraud.schema import LABELS, TRANSACTIONS
from tests.unit.fraud.conftest import START, day


def partition(lake: Lake, kind: str, when: date) -> Path:
    return Path(lake.uri) / kind.replace("/", f"/{'known' if kind == 'labels/' else 'date'}={when}/") / "data.parquet"


def test_what_is_written_is_read(lake, small):
    fill(lake, small, START, day(9))
    assert lake.days() == lake.label_days() == list(days_between(START, day(9)))
    read = lake.transactions(day(2), day(4))
    assert_frame_equal(read, pl.concat(small.transactions(day(number)) for number in (2, 3, 4)))


def test_an_empty_lake_has_no_days(lake):
    assert lake.days() == []
    with pytest.raises(BadInput, match="no transactions/date=2018-04-01;"):
        lake.transactions(START, START)


def test_missing_days_are_named_with_the_command_that_fills_them(lake, small):
    for number in (0, 1, 4, 6):
        fill(lake, small, day(number), day(number))
    with pytest.raises(BadInput) as refusal:
        lake.transactions(START, day(7))
    assert "no transactions/date=2018-04-03..2018-04-04, 2018-04-06, 2018-04-08;" in str(refusal.value)
    assert "python -m include.fraud.ingest --first 2018-04-03 --last 2018-04-08" in str(refusal.value)


def test_labels_are_those_known_on_the_day(lake, small):
    fill(lake, small, START, day(20))
    of_first_three = pl.concat(small.labels(day(number)) for number in range(3))
    assert lake.labels(day(6)).is_empty()
    assert_frame_equal(lake.labels(day(9)), of_first_three)
    assert_frame_equal(lake.labels(day(20), START, day(2)), of_first_three)
    assert_frame_equal(lake.labels(day(8), day(1), day(5)), small.labels(day(1)))
    assert dict(lake.labels(day(6)).schema) == LABELS


def test_labels_that_should_be_known_but_were_not_ingested_are_refused(lake, small):
    fill(lake, small, START, day(10))
    with pytest.raises(
        BadInput, match=r"no labels/known=2018-04-12\.\.2018-04-15; .*--first 2018-04-12 --last 2018-04-15"
    ):
        lake.labels(day(14))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_partition_is_refused_by_name(kept, lake, small):
    fill(lake, small, START, day(2))
    path = partition(lake, "transactions/", day(1))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size) if kept < 1 else kept])
    with pytest.raises(
        BadInput, match=r"date=2018-04-02/data\.parquet cannot be read .*--first 2018-04-02 --last 2018-04-02"
    ):
        lake.transactions(START, day(2))


def test_a_partition_of_another_program_is_refused(lake, small):
    fill(lake, small, START, START)
    small.day(START).write_parquet(partition(lake, "transactions/", START))
    with pytest.raises(BadInput, match="another program wrote it"):
        lake.transactions(START, START)


def test_no_file_and_no_reader_ever_holds_the_scenario(lake, small):
    fill(lake, small, START, day(8))
    for path in Path(lake.uri).rglob("*.parquet"):
        assert set(pl.read_parquet_schema(path)) <= {*TRANSACTIONS, *LABELS, "reason"}


def test_what_a_killed_writer_left_is_ignored_and_cleaned(lake, small):
    left = partition(lake, "transactions/", START).with_name(".data.parquet-killed")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"PAR1 half a file")
    assert lake.days() == []
    fill(lake, small, START, START)
    assert [path.name for path in left.parent.iterdir()] == ["data.parquet"]


def test_a_write_that_fails_leaves_the_old_partition(lake, small, monkeypatch):
    fill(lake, small, START, START)
    before = partition(lake, "transactions/", START).read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        lake.write_transactions(START, small.transactions(day(1)))
    assert partition(lake, "transactions/", START).read_bytes() == before


def test_the_same_frame_gives_the_same_bytes(lake, small, tmp_path):
    frame = small.transactions(START)
    assert lake.write_transactions(START, frame) == Lake(str(tmp_path / "other")).write_transactions(START, frame)
    assert partition(lake, "transactions/", START).read_bytes() == lake.write_transactions(START, frame.clone())


def test_a_quarantine_without_rows_removes_the_former_one(lake, small):
    bad = small.transactions(START).head(2).with_columns(reason=pl.lit("repeated"))
    lake.write_quarantine(START, bad)
    assert_frame_equal(lake.quarantine(START), bad)
    lake.write_quarantine(START, bad.clear())
    assert lake.quarantine(START).is_empty()
    assert not partition(lake, "quarantine/", START).exists()


@pytest.mark.parametrize("name", ["lake [2018]", "läke *", "a b"])
def test_a_folder_may_have_any_name(name, small, tmp_path):
    lake = Lake(str(tmp_path / name))
    fill(lake, small, START, START)
    assert lake.days() == [START]
    assert lake.transactions(START, START).height == small.transactions(START).height


def test_fake_s3_lake_holds_what_a_folder_holds(fake_s3, lake, small):
    remote = Lake(f"{fake_s3}/some/prefix/")
    assert remote.days() == []
    assert fill(remote, small, START, day(8)) == fill(lake, small, START, day(8))
    assert remote.days() == lake.days()
    assert_frame_equal(remote.transactions(START, day(8)), lake.transactions(START, day(8)))
    assert_frame_equal(remote.labels(day(8)), lake.labels(day(8)))
    with pytest.raises(BadInput, match="no transactions/date=2018-04-10"):
        remote.transactions(START, day(9))
    remote.write_quarantine(START, small.transactions(START).with_columns(reason=pl.lit("repeated")))
    remote.write_quarantine(START, small.transactions(START).clear())
    assert remote.quarantine(START).is_empty()


def test_fake_s3_without_the_bucket_is_refused(fake_s3, small):
    lake = Lake("s3://nobody-made-this")
    assert lake.days() == []
    with pytest.raises(BadInput, match=r"s3://nobody-made-this cannot be written: .* create the bucket"):
        fill(lake, small, START, START)
