"""A week sent through the API gets the inputs that training computes, row by row."""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from include.code_version import ROOT
from include.fraud import event_log
from include.fraud.features import features_by_chunk
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.protocol import Fold
from include.fraud.sources import ParquetSource
from include.fraud.windows import FEATURES, HISTORY_DAYS
from include.serving import load_features
from include.settings import settings
from tests.integration.serving.conftest import AS_OF, RedisServer, Replica, make_package

AT_ONCE = 100


def requests(rows: pl.DataFrame) -> list[dict[str, object]]:
    return [
        {**row, "tx_datetime": row["tx_datetime"].isoformat()}
        for row in rows.select("transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount").iter_rows(
            named=True
        )
    ]


def replay(replicas: list[Replica], store: RedisServer, rows: pl.DataFrame, first: date, last: date) -> None:
    """Day by day: labels arrive, transactions are sent in order to one replica after the other, some of them twice."""
    clients = [replica.client() for replica in replicas]
    differences = []
    turn = 0
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        load_features.load(store.client, event_log.histories(day - timedelta(days=1), day), day - timedelta(days=1))
        today = rows.filter(pl.col("tx_datetime").dt.date() == day)
        body = requests(today)
        expected = today.select(FEATURES).to_numpy()
        for start in range(0, len(body), AT_ONCE):
            sent = body[start : start + AT_ONCE]
            for _ in range(2 if turn % 5 == 0 else 1):  # a client that tries again must not count twice
                turn += 1
                got = clients[turn % len(clients)].post("/predict?explain=true", json=sent)
            assert got.status_code == 200, got.text
            answers = got.json()
            assert [one["transaction_id"] for one in answers] == [one["transaction_id"] for one in sent]
            assert not any(one["degraded"] for one in answers)
            inputs = np.array([[one["inputs"][name] for name in FEATURES] for one in answers])
            differences.append(np.abs(inputs - expected[start : start + AT_ONCE]).max())
    assert max(differences) <= 1e-9
    memory = store.client.info("memory")["used_memory"] / 1e6
    logging.info("%d rows, largest difference %.1e, Redis %.1f MB", rows.height, max(differences), memory)


def test_a_simulated_week(redis_server, serve, packed, lake_of_the_test):
    first, last = AS_OF - timedelta(days=6), AS_OF
    (rows,) = features_by_chunk(Lake(str(lake_of_the_test)), first, last, last)
    replay([serve(packed, redis_server.url), serve(packed, redis_server.url)], redis_server, rows, first, last)


REPLAYED = date(2018, 8, 8), date(2018, 8, 14)
SERVED = Fold(date(2018, 7, 11))  # the newest model that could be trained on the day before


@pytest.fixture
def real_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(os.environ.get("MLOPS_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not any(folder.glob("*.parquet")):
        assert "MLOPS_REAL_DATA" not in os.environ, f"MLOPS_REAL_DATA={folder}: no Parquet file in it"
        pytest.skip(f"no published data: set MLOPS_REAL_DATA to a folder of its Parquet files ({folder} has none)")
    lake = tmp_path / "real-lake"
    first = SERVED.train_first - timedelta(days=HISTORY_DAYS)
    fill(Lake(str(lake)), ParquetSource(str(folder / "*.parquet")), first, REPLAYED[1] + timedelta(days=7))
    monkeypatch.setenv("MLOPS_LAKE_URI", str(lake))
    settings.cache_clear()
    yield lake
    settings.cache_clear()


def test_a_real_week(redis_server: RedisServer, serve: Callable[..., Replica], real_lake: Path, tmp_path: Path):
    first, last = REPLAYED
    folder = tmp_path / "package"
    folder.mkdir()
    package = make_package(real_lake, SERVED, first - timedelta(days=1), folder, "1")
    settings.cache_clear()
    (rows,) = features_by_chunk(Lake(str(real_lake)), first, last, last + timedelta(days=7))
    assert rows.height > 60_000
    replay([serve(package, redis_server.url), serve(package, redis_server.url)], redis_server, rows, first, last)
    assert redis_server.client.info("memory")["used_memory"] < 50_000_000
