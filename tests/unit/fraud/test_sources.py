"""Parquet files as a source: how their columns are read, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import s3fs
from polars.testing import assert_frame_equal

from include.command import BadInput
from include.fraud.schema import LABELS, TRANSACTIONS
from include.fraud.simulator import Simulator
from include.fraud.sources import ParquetSource, open_source
from tests.unit.fraud.conftest import START, day, parquet_bytes


@pytest.fixture
def days(small) -> pl.DataFrame:
    return pl.concat(small.day(day(number)) for number in range(3))


def as_published(frame: pl.DataFrame) -> pl.DataFrame:
    """Upper-case names, naive times in nanoseconds, narrow integers, the derived columns."""
    return frame.with_columns(
        pl.col("tx_datetime").dt.replace_time_zone(None).dt.cast_time_unit("ns"),
        pl.col("customer_id", "terminal_id").cast(pl.Int32),
        tx_time_seconds=pl.lit(1),
        tx_time_days=pl.lit(1),
    ).rename(str.upper)


@pytest.mark.parametrize("shape", [as_published, lambda frame: frame, lambda frame: frame.drop("tx_fraud_scenario")])
def test_a_day_reads_as_it_was_made(shape, days, small, deliver):
    source = open_source(deliver(shape(days)))
    for number in range(3):
        assert_frame_equal(source.transactions(day(number)), small.transactions(day(number)))
        assert_frame_equal(source.labels(day(number)), small.labels(day(number)))


def test_files_of_another_zone_are_cut_into_utc_days(days, small, deliver):
    tokyo = days.with_columns(pl.col("tx_datetime").dt.convert_time_zone("Asia/Tokyo"))
    source = ParquetSource(deliver(tokyo))
    assert_frame_equal(source.transactions(day(1)), small.transactions(day(1)))
    assert [source.has(day(number)) for number in (-1, 0, 2, 3)] == [False, True, True, False]


def test_midnight_begins_a_day(small, deliver):
    midnights = [datetime(2018, 4, number, tzinfo=UTC) for number in (1, 2, 3)]
    source = ParquetSource(deliver(small.day(START).head(3).with_columns(tx_datetime=pl.Series(midnights))))
    assert [source.transactions(day(number))["tx_datetime"].to_list() for number in range(3)] == [
        [m] for m in midnights
    ]


def test_a_glob_reads_all_its_files(days, small, tmp_path, deliver):
    for number in range(3):
        deliver(small.day(day(number)), f"part-{number}.parquet")
    source = ParquetSource(f"{tmp_path}/part-*.parquet")
    assert_frame_equal(source.transactions(day(2)), small.transactions(day(2)))


def test_a_day_outside_is_refused_with_the_days_there_are(days, deliver):
    source = ParquetSource(deliver(days))
    for ask in (source.transactions, source.labels):
        with pytest.raises(BadInput, match=r"no transactions of 2018-04-04: it covers 2018-04-01 to 2018-04-03"):
            ask(day(3))


def test_a_glob_without_files_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"MLOPS_SOURCE=.*/none-\*.parquet: no file matches; give a path"):
        open_source(f"{tmp_path}/none-*.parquet")


@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(kept, days, deliver, tmp_path):
    deliver(days.filter(pl.col("tx_datetime") < datetime(2018, 4, 2, tzinfo=UTC)), "a.parquet")
    broken = Path(deliver(days.filter(pl.col("tx_datetime") >= datetime(2018, 4, 2, tzinfo=UTC)), "b.parquet"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(BadInput, match=r"b\.parquet cannot be read as Parquet .* deliver it again"):
        ParquetSource(f"{tmp_path}/?.parquet").transactions(day(1))


def test_files_with_different_columns_are_refused(days, deliver, tmp_path):
    deliver(days, "a.parquet")
    deliver(days.with_columns(pan=pl.lit("4111")), "b.parquet")
    with pytest.raises(BadInput, match="all files need the same columns"):
        ParquetSource(f"{tmp_path}/?.parquet").transactions(START)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.with_columns(pan=pl.lit("4111")), "unknown column pan"),
        (lambda f: f.drop("tx_fraud"), "no column tx_fraud"),
        (lambda f: f.drop("customer_id"), "no column customer_id"),
        (lambda f: f.with_columns(pl.col("terminal_id").cast(pl.Float64)), "column terminal_id is Float64"),
        (lambda f: f.with_columns(pl.col("tx_datetime").cast(pl.String)), "tx_datetime .*Datetime is needed"),
        (lambda f: f.with_columns(pl.col("tx_datetime").dt.date()), "tx_datetime .*Datetime is needed"),
        (lambda f: f.with_columns(tx_datetime=pl.lit(None, f.schema["tx_datetime"])), "rows have no tx_datetime"),
        (lambda f: f.clear(), "the files hold no row"),
    ],
)
def test_unfit_files_are_refused(spoil, message, days, deliver):
    with pytest.raises(BadInput, match=message):
        ParquetSource(deliver(spoil(days))).transactions(START)


def test_the_scenario_reaches_nobody(days, deliver):
    source = ParquetSource(deliver(days))
    assert source.transactions(START).columns == [*TRANSACTIONS]
    assert source.labels(START).columns == [*LABELS]


def test_the_simulator_takes_its_seed_from_the_settings(monkeypatch):
    assert isinstance(open_source("simulator"), Simulator)


def test_fake_s3_files_are_a_source(fake_s3, days, small):
    s3fs.S3FileSystem().pipe_file(f"{fake_s3}/in/a.parquet", parquet_bytes(as_published(days)))
    source = open_source(f"{fake_s3}/in/*.parquet")
    assert_frame_equal(source.transactions(day(1)), small.transactions(day(1)))
    with pytest.raises(BadInput, match="no file matches"):
        open_source(f"{fake_s3}/out/*.parquet")


def test_the_published_days_are_good(real_data):
    from include.fraud.schema import split_bad_rows

    source = ParquetSource(real_data)
    first = date(2018, 4, 1)
    assert not source.has(first - timedelta(days=1))
    for when in (first, date(2018, 8, 31), date(2018, 9, 4)):
        good, rejected = split_bad_rows(source.transactions(when), when)
        assert rejected.is_empty()
        assert 9_000 < good.height < 10_000
        assert 0 < source.labels(when)["tx_fraud"].mean() < 0.02 or when == first
