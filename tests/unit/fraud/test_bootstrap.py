"""The interval of a difference: the weighted curve is scikit-learn's, and the verdict is the right one."""

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from include.fraud.bootstrap import SEED, paired_bootstrap


def rows(number: int = 4000, customers: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Customer, fraud, and a score that knows something, rounded so that many are equal."""
    draw = np.random.default_rng(3)
    fraud = (draw.random(number) < 0.03).astype(np.int64)
    return draw.integers(customers, size=number), fraud, np.round(fraud + draw.normal(size=number), 1)


def test_agrees_with_scikit_learn_resample_by_resample() -> None:
    customer, fraud, champion = rows()
    challenger = np.round(champion + np.random.default_rng(4).normal(size=len(fraud)) / 2, 1)
    found = paired_bootstrap(customer, fraud, champion, challenger, resamples=40)
    names, codes = np.unique(customer, return_inverse=True)
    draw, differences = np.random.default_rng(SEED), []
    for _ in range(40):
        taken = np.concatenate([np.flatnonzero(codes == one) for one in draw.integers(len(names), size=len(names))])
        curve = [average_precision_score(fraud[taken], score[taken]) for score in (challenger, champion)]
        differences.append(curve[0] - curve[1])
    whole = average_precision_score(fraud, challenger) - average_precision_score(fraud, champion)
    assert found.estimate == pytest.approx(whole, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(np.quantile(differences, (0.025, 0.975)), abs=1e-12)


def test_a_better_score_is_surely_better_and_the_other_way_round() -> None:
    customer, fraud, champion = rows()
    better = champion + fraud
    ahead = paired_bootstrap(customer, fraud, champion, better, resamples=200)
    behind = paired_bootstrap(customer, fraud, better, champion, resamples=200)
    assert 0 < ahead.low < ahead.estimate < ahead.high
    assert (behind.estimate, behind.low, behind.high) == pytest.approx((-ahead.estimate, -ahead.high, -ahead.low))


def test_the_same_score_is_not_better() -> None:
    customer, fraud, champion = rows()
    found = paired_bootstrap(customer, fraud, champion, champion.copy(), resamples=50)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_rows_of_a_customer_are_drawn_together() -> None:
    # With all frauds at one customer the difference is all or nothing; rows drawn alone would blur it.
    customer, fraud, champion = rows()
    one = np.where(fraud == 1, 0, customer)
    many = np.where(fraud == 1, np.arange(len(fraud)), customer)
    better = champion + np.random.default_rng(5).normal(size=len(fraud))
    widths = [
        (found := paired_bootstrap(who, fraud, champion, better, resamples=200)).high - found.low for who in (one, many)
    ]
    assert widths[0] != pytest.approx(widths[1], rel=0.05)


def test_the_same_input_gives_the_same_answer() -> None:
    customer, fraud, champion = rows()
    answers = {paired_bootstrap(customer, fraud, champion, champion + fraud / 2, resamples=20) for _ in range(2)}
    assert len(answers) == 1


def test_a_test_week_takes_seconds() -> None:
    customer, fraud, champion = rows(58_000, 5_000)
    began = time.process_time()
    paired_bootstrap(customer, fraud, champion, champion + fraud)
    assert time.process_time() - began < 5
