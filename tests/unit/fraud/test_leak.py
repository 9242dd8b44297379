"""An input that gives the label away is refused, and none of the real fifteen is one."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from include.command import Refused
from include.fraud.features import features
from include.fraud.leak import refuse_leaks
from include.fraud.protocol import Fold, rows_to_train
from include.fraud.schema import LABELS, TRANSACTIONS, conform
from include.fraud.windows import FEATURES


def some_rows() -> tuple[np.ndarray, np.ndarray]:
    """Two honest inputs and labels; 1 % fraud."""
    draw = np.random.default_rng(0)
    fraud = (draw.random(5000) < 0.01).astype(np.int64)
    return draw.normal(size=(5000, 2)) + fraud[:, None], fraud


def test_honest_inputs_pass() -> None:
    features, fraud = some_rows()
    refuse_leaks(features, fraud, ["a", "b"])


@pytest.mark.parametrize("sign", [1, -1])
def test_the_scenario_is_refused_by_name_in_either_direction(sign: int) -> None:
    features, fraud = some_rows()
    scenario = fraud * np.random.default_rng(1).integers(1, 4, size=len(fraud))
    with pytest.raises(Refused, match=r"'tx_fraud_scenario'.*take it out"):
        refuse_leaks(np.column_stack([features, sign * scenario]), fraud, ["a", "b", "tx_fraud_scenario"])


def test_real_inputs_pass_and_the_real_scenario_does_not(real_data: str) -> None:
    fold = Fold(date(2018, 7, 25))
    given = pl.read_parquet(real_data)
    rows = conform(given, TRANSACTIONS | {"tx_fraud": LABELS["tx_fraud"]}, "the published set")
    training = rows_to_train(features(rows, fold.train_first, fold.train_last), fold)
    inputs, fraud = training.select(FEATURES).to_numpy(), training["tx_fraud"].to_numpy()
    refuse_leaks(inputs, fraud, FEATURES)
    scenarios = given.select(
        pl.col("TRANSACTION_ID").cast(TRANSACTIONS["transaction_id"]).alias("transaction_id"),
        pl.col("TX_FRAUD_SCENARIO").cast(pl.Float64).alias("scenario"),
    )
    scenario = training.join(scenarios, on="transaction_id", how="left", maintain_order="left")["scenario"].to_numpy()
    with pytest.raises(Refused, match="tx_fraud_scenario"):
        refuse_leaks(np.column_stack([inputs, scenario]), fraud, [*FEATURES, "tx_fraud_scenario"])
