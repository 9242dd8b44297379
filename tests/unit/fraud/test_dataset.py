"""The data of a retrain: whole windows, both classes, every label, no leak, the same bytes each time."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from include.command import BadInput, Refused
from include.fraud import dataset
from include.fraud.form import RetrainForm
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.plan import plan
from include.fraud.simulator import Simulator
from include.fraud.windows import FEATURES
from include.settings import settings

AS_OF = date(2025, 6, 29)
# Windows as short as they can be, so that the lake is small.
PLAN = plan(AS_OF, RetrainForm(train_days=2, test_days=2))


@pytest.fixture(scope="module")
def full_lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    fill(Lake(str(folder)), Simulator(7, customers=300, terminals=600), PLAN.first_read, AS_OF)
    return folder


@pytest.fixture
def lake(full_lake, tmp_path, monkeypatch):
    """A copy of the lake that a test may break; it is the one of the settings."""
    import shutil

    folder = tmp_path / "lake"
    shutil.copytree(full_lake, folder)
    monkeypatch.setenv("MLOPS_LAKE_URI", str(folder))
    settings.cache_clear()
    yield Lake(str(folder))
    settings.cache_clear()


def make():
    return dataset.main(dataset.Args(plan=PLAN))


def relabel(lake, change):
    for known in lake.label_days():
        path = lake._folder / f"labels/known={known}" / "data.parquet"
        lake.write_labels(known, change(pl.read_parquet(path)))


def test_the_same_windows_give_the_same_bytes(lake):
    one, two = make(), make()
    assert one == two
    rows = one.read()
    assert set(FEATURES) <= set(rows.columns)
    assert rows["tx_datetime"].dt.date().min() == PLAN.first_scored
    assert rows["tx_datetime"].dt.date().max() == PLAN.fold.test_last
    assert one.frauds == rows["tx_fraud"].sum() > 0
    assert "tx_fraud_scenario" not in rows.columns


def test_the_models_inputs_are_the_features_in_order(lake):
    rows = make().read()
    matrix = dataset.feature_matrix(rows)
    assert matrix.shape == (len(rows), 15)
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix[:, 0], rows["tx_amount"].to_numpy().astype(np.float32))


def test_a_missing_day_is_named_with_its_cure(lake):
    gap = PLAN.first_scored - timedelta(days=3)
    (lake._folder / f"transactions/date={gap}" / "data.parquet").unlink()
    with pytest.raises(BadInput, match=f"1 days .* from {gap} to {gap}.*include.fraud.ingest --first {gap}"):
        make()


def test_history_must_be_whole(lake):
    (lake._folder / f"transactions/date={PLAN.first_read}" / "data.parquet").unlink()
    with pytest.raises(BadInput, match=str(PLAN.first_read)):
        make()


def test_a_week_without_fraud_is_refused(lake):
    relabel(lake, lambda labels: labels.with_columns(tx_fraud=pl.lit(0, pl.Int8)))
    with pytest.raises(BadInput, match="0 frauds in"):
        make()


def test_transactions_without_a_label_are_refused(lake):
    relabel(lake, lambda labels: labels.slice(1))
    with pytest.raises(BadInput, match="have no label on"):
        make()


def test_labels_of_the_future_are_not_read(lake):
    """Labels that became known after the as-of date do not change a byte."""
    before = make()
    later = AS_OF + timedelta(days=1)
    lake.write_labels(later, pl.DataFrame({"transaction_id": [1], "tx_fraud": [1]}))
    assert make() == before


def test_a_truncated_partition_is_named(lake):
    path = lake._folder / f"transactions/date={PLAN.fold.train_first}" / "data.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match=f"date={PLAN.fold.train_first}.*cannot be read as Parquet"):
        make()


def test_a_leak_is_caught(lake, monkeypatch):
    """An input that is the label in disguise, as tx_fraud_scenario is, never reaches training."""
    chunks = dataset.features_by_chunk

    def leaking(*given):
        for chunk in chunks(*given):
            yield chunk.with_columns(terminal_risk_1d=pl.col("tx_fraud") * 2.0)

    monkeypatch.setattr(dataset, "features_by_chunk", leaking)
    with pytest.raises(Refused, match="'terminal_risk_1d' alone ranks the frauds"):
        make()


def test_a_changed_file_is_refused(lake):
    made = make()
    path = lake._folder / made.uri.removeprefix(f"{lake.uri}/")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadInput, match="run the step dataset again"):
        made.read()
