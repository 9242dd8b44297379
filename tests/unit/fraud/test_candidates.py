"""The candidates can be repeated to the last bit, whatever the machine, and their names are checked."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest

from include.command import BadInput
from include.fraud import candidates
from include.fraud.candidates import CANDIDATES
from include.fraud.derived_inputs import PRODUCTS, RATIOS, with_derived
from include.fraud.form import CandidateName
from include.fraud.windows import FEATURES

NAMES = list(CANDIDATES)


def inputs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [rows, 15] and labels: risky terminals and amounts far above a customer's mean are fraud."""
    draw = np.random.default_rng(0)
    columns: Iterator[np.ndarray] = (
        draw.random(rows).round(2) if "risk" in name else draw.gamma(2, 30, rows).round(2) for name in FEATURES
    )
    features = np.column_stack(list(columns))
    odd = features[:, FEATURES.index("tx_amount")] / features[:, FEATURES.index("customer_avg_amount_30d")]
    risk = features[:, FEATURES.index("terminal_risk_7d")]
    return features, ((odd > 6) | (risk + draw.normal(0, 0.05, rows) > 0.95)).astype(np.int64)


def test_the_form_offers_exactly_these_candidates() -> None:
    assert set(get_args(CandidateName)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_fitted_twice_on_any_number_of_cores_it_is_the_same_model(name: str) -> None:
    features, fraud = inputs(3000)
    parameters = CANDIDATES[name].grid[0]
    one, two = (candidates.fit(name, parameters, features, fraud, jobs=jobs) for jobs in (1, 2))
    expected = candidates.scores(one, features)
    assert np.array_equal(candidates.scores(two, features), expected)
    assert all(np.array_equal(candidates.scores(two, features), expected) for _ in range(5))
    assert np.allclose(candidates.scores(two, features[:17]), expected[:17], atol=1e-6, rtol=0)
    assert expected[fraud == 1].mean() > 3 * expected[fraud == 0].mean()


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_the_grid_can_be_built(name: str) -> None:
    for parameters in CANDIDATES[name].grid:
        CANDIDATES[name].build(**parameters)


def test_features_are_rounded_as_the_server_rounds_them() -> None:
    features, fraud = inputs(2000)
    model = candidates.fit("decision_tree", {"max_depth": 8}, features, fraud)
    rounded = features.astype(np.float32)
    assert np.array_equal(candidates.scores(model, features), candidates.scores(model, rounded))
    again = candidates.fit("decision_tree", {"max_depth": 8}, rounded, fraud)
    assert np.array_equal(candidates.scores(again, rounded), candidates.scores(model, features))


def test_derived_columns_by_name() -> None:
    row = dict.fromkeys(FEATURES, np.float32(0)) | {
        "tx_amount": np.float32(90),
        "customer_avg_amount_30d": np.float32(30),
        "terminal_nb_tx_7d": np.float32(8),
        "terminal_risk_7d": np.float32(0.25),
    }
    derived = with_derived(np.array([list(row.values())], dtype=np.float32))[0]
    assert derived.dtype == np.float32
    assert derived[: len(FEATURES)].tolist() == list(row.values())
    added = dict(zip((*RATIOS, *PRODUCTS), derived[len(FEATURES) :], strict=True))
    assert added["tx_amount", "customer_avg_amount_30d"] == 3
    assert added["customer_avg_amount_7d", "customer_avg_amount_30d"] == 0
    assert added["terminal_nb_tx_7d", "terminal_risk_7d"] == 2
    assert np.isfinite(derived).all()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"'xgboost' is not known: choose one of logistic_regression, decision_tree"):
        candidates.candidate("xgboost")
