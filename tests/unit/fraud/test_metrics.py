"""The three figures: by hand on a few rows, and the traps of the definition."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from include.command import BadInput
from include.fraud.metrics import Metrics, card_precision_at_k, evaluate, mean


def test_a_customer_counts_once_with_the_days_highest_score_and_any_fraud() -> None:
    # Customer 1 is first because of a genuine transaction; it counts as found because another of the day was fraud.
    per_day, overall = card_precision_at_k(
        day=[0, 0, 0, 0], customer=[1, 1, 2, 3], score=[0.9, 0.1, 0.8, 0.2], fraud=[0, 1, 0, 1], k=2
    )
    assert per_day.tolist() == [0.5]
    assert overall == 0.5


def test_found_customers_are_left_out_later_and_missed_ones_are_not() -> None:
    per_day, overall = card_precision_at_k(
        day=[0, 0, 1, 1, 1], customer=[1, 2, 1, 2, 3], score=[0.9, 0.1, 0.9, 0.8, 0.1], fraud=[1, 1, 1, 1, 0], k=1
    )
    # Day 0 finds customer 1. On day 1 customer 1 is blocked, so customer 2, missed the day before, is looked at.
    assert per_day.tolist() == [1.0, 1.0]
    assert overall == 1.0


def test_a_looked_at_customer_without_fraud_may_come_back() -> None:
    per_day, _ = card_precision_at_k(day=[0, 1], customer=[1, 1], score=[0.5, 0.5], fraud=[0, 1], k=1)
    assert per_day.tolist() == [0.0, 1.0]


def test_the_share_is_of_k_also_when_there_are_fewer_customers() -> None:
    per_day, _ = card_precision_at_k(day=[0, 0], customer=[1, 2], score=[0.9, 0.1], fraud=[1, 1], k=100)
    assert per_day.tolist() == [0.02]


def test_equal_scores_do_not_depend_on_the_order_of_rows() -> None:
    customer, fraud = np.arange(50), (np.arange(50) % 3 == 0).astype(int)
    shuffled = np.random.default_rng(1).permutation(50)
    answers = [
        card_precision_at_k(np.zeros(50), customer[rows], np.zeros(50), fraud[rows], k=10)[1]
        for rows in (np.arange(50), shuffled)
    ]
    assert answers[0] == answers[1]


def test_days_are_taken_in_order_of_time_whatever_the_order_of_rows() -> None:
    per_day, _ = card_precision_at_k(day=[1, 0], customer=[1, 1], score=[0.9, 0.9], fraud=[1, 1], k=1)
    assert per_day.tolist() == [1.0, 0.0]


def test_curves_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    fraud, score = draw.random(500) < 0.1, np.round(draw.random(500), 1)
    measured = evaluate(draw.integers(7, size=500), draw.integers(50, size=500), score, fraud.astype(int))
    assert measured.auc_roc == roc_auc_score(fraud, score)
    assert measured.average_precision == average_precision_score(fraud, score)


def test_mean_is_per_figure() -> None:
    assert mean([Metrics(0.8, 0.6, 0.2), Metrics(0.6, 0.2, 0.4)]) == Metrics(
        pytest.approx(0.7), pytest.approx(0.4), pytest.approx(0.3)
    )


@pytest.mark.parametrize(
    ("score", "fraud", "says"),
    [
        ([0.1, 0.2], [0, 0], "0 frauds among 2"),
        ([0.1, 0.2], [1, 1], "2 frauds among 2"),
        ([0.1, np.nan], [0, 1], "1 scores are not finite"),
        ([0.1, 0.2], [0, 2], r"fraud holds \[0, 2\]"),
        ([0.1], [0, 1], "same number"),
        ([], [], "above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(score: list[float], fraud: list[int], says: str) -> None:
    rows = len(fraud)
    with pytest.raises(BadInput, match=says):
        evaluate(np.zeros(rows), np.arange(rows), score, fraud)


def test_no_fold_and_no_card_are_refused() -> None:
    with pytest.raises(BadInput, match="0 folds"):
        mean([])
    with pytest.raises(BadInput, match="k=0"):
        card_precision_at_k([0], [1], [0.5], [1], k=0)
