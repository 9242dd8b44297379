"""What the tests of the fraud room share: a small simulator, a lake in a folder, an S3 that is none, the real data."""

import io
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from include.code_version import ROOT
from include.fraud.lake import Lake
from include.fraud.schema import LABELS, TRANSACTIONS
from include.fraud.simulator import Simulator
from tests.fake_s3 import fake_s3  # noqa: F401 - fixture

START = date(2018, 4, 1)


def day(number: int) -> date:
    """The day `number` days after START."""
    return START + timedelta(days=number)


class Delivered:
    """A source of given frames by day, for what the simulator never does: broken rows, broken days."""

    def __init__(self, days: dict[date, pl.DataFrame]) -> None:
        self.days = days

    def has(self, day: date) -> bool:
        return day in self.days

    def transactions(self, day: date) -> pl.DataFrame:
        return self.days[day].select(*TRANSACTIONS)

    def labels(self, day: date) -> pl.DataFrame:
        return self.days[day].select(*LABELS)


@pytest.fixture
def small() -> Simulator:
    """Some 400 transactions a day."""
    return Simulator(7, customers=200, terminals=400)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def deliver(tmp_path: Path) -> Callable[..., str]:
    """Write a frame as a Parquet file of a source; returns the file's path."""

    def write(frame: pl.DataFrame, name: str = "delivery.parquet") -> str:
        frame.write_parquet(tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def real_data() -> str:
    """Glob of the published transactions: MLOPS_REAL_DATA, or the folder beside the checkout."""
    folder = Path(os.environ.get("MLOPS_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not any(folder.glob("*.parquet")):
        pytest.skip(f"no published data: set MLOPS_REAL_DATA to a folder of its Parquet files ({folder} has none)")
    return str(folder / "*.parquet")


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
