"""Parameters are chosen on the validation week and nothing of the gap's end or the test week has a say."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from include.fraud import candidates, metrics
from include.fraud.candidates import Candidate
from include.fraud.protocol import Fold, rows_to_test, rows_to_train
from include.fraud.selection import select
from include.fraud.windows import FEATURES

FOLD = Fold(date(2018, 7, 25))
ROWS_A_DAY = 120


def matrix(rows: pl.DataFrame) -> np.ndarray:
    return rows.select(pl.col(FEATURES).cast(pl.Float32)).to_numpy()


@pytest.fixture
def rows() -> pl.DataFrame:
    """Every day from the validation fold's first to the test's last; noise, and one column that knows something."""
    draw = np.random.default_rng(0)
    days = (FOLD.test_last - FOLD.validation().train_first).days + 1
    number = days * ROWS_A_DAY
    first = datetime.combine(FOLD.validation().train_first, datetime.min.time(), UTC)
    fraud = (draw.random(number) < 0.05).astype(np.int64)
    columns = {name: draw.normal(10, 1, number) for name in FEATURES}
    columns["tx_amount"] = columns["tx_amount"] + 1.5 * fraud
    return pl.DataFrame(
        {
            "tx_datetime": [first + timedelta(days=day, hours=12) for day in range(days) for _ in range(ROWS_A_DAY)],
            "customer_id": draw.integers(100_000, size=number),
            "tx_fraud": fraud,
            **columns,
        }
    )


def test_the_best_of_the_grid_on_the_validation_week_is_taken(rows: pl.DataFrame) -> None:
    chosen = select("decision_tree", rows, FOLD, matrix)
    validation = FOLD.validation()
    training, test = rows_to_train(rows, validation), rows_to_test(rows, validation)
    tried = []
    for parameters in candidates.candidate("decision_tree").grid:
        model = candidates.fit("decision_tree", parameters, matrix(training), training["tx_fraud"].to_numpy())
        tried.append(
            metrics.evaluate(
                test["tx_datetime"].dt.date().to_numpy(),
                test["customer_id"].to_numpy(),
                candidates.scores(model, matrix(test)),
                test["tx_fraud"].to_numpy(),
            )
        )
    best = max(range(len(tried)), key=lambda number: tried[number].overall)
    assert len({one.overall for one in tried}) > 1
    assert chosen.validation == tried[best]
    assert chosen.parameters == candidates.candidate("decision_tree").grid[best]


def test_whatever_happens_after_the_training_window_changes_nothing(rows: pl.DataFrame) -> None:
    later = pl.col("tx_datetime").dt.date() > FOLD.train_last
    poisoned = rows.with_columns(
        pl.when(later).then(1 - pl.col("tx_fraud")).otherwise(pl.col("tx_fraud")).alias("tx_fraud"),
        *(pl.when(later).then(-pl.col(name)).otherwise(pl.col(name)).alias(name) for name in FEATURES),
    )
    assert select("decision_tree", poisoned, FOLD, matrix) == select("decision_tree", rows, FOLD, matrix)


def test_of_two_that_are_equally_good_the_first_is_taken(rows: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = Candidate("twice", candidates.CANDIDATES["decision_tree"].build, ({"max_depth": 2}, {"max_depth": 2.0}))
    monkeypatch.setitem(candidates.CANDIDATES, "twice", twice)
    monkeypatch.setattr(candidates, "fit", lambda name, parameters, x, y: None)
    monkeypatch.setattr(candidates, "scores", lambda model, x: x[:, 0])
    assert select("twice", rows, FOLD, matrix).parameters is twice.grid[0]
