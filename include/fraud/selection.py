"""Chooses a candidate's parameters on the validation fold, which ends before the test window begins."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from include.fraud import candidates, metrics
from include.fraud.candidates import Parameters
from include.fraud.metrics import Metrics
from include.fraud.protocol import Fold, rows_to_test, rows_to_train


@dataclass(frozen=True)
class Selection:
    """The parameters that were best on the validation week, and how good they were there."""

    parameters: Parameters
    validation: Metrics


def select(
    name: str, rows: pl.DataFrame, fold: Fold, matrix: Callable[[pl.DataFrame], NDArray[np.float32]]
) -> Selection:
    """Try the whole grid of candidate `name`; the highest `overall` wins, the earlier entry of equals."""
    validation = fold.validation()
    training, test = rows_to_train(rows, validation), rows_to_test(rows, validation)
    day, customer = test["tx_datetime"].dt.date().to_numpy(), test["customer_id"].to_numpy()
    features, fraud = matrix(training), training["tx_fraud"].to_numpy()
    tried = []
    for parameters in candidates.candidate(name).grid:
        model = candidates.fit(name, parameters, features, fraud)
        scores = candidates.scores(model, matrix(test))
        tried.append(Selection(parameters, metrics.evaluate(day, customer, scores, test["tx_fraud"].to_numpy())))
    return max(tried, key=lambda one: one.validation.overall)
