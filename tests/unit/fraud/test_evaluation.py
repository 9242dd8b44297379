"""The rule that promotes, at its edges."""

import pytest

from include.fraud.evaluation import Difference, decide

CLEAR = Difference(estimate=0.5, low=0.4, high=0.6)


def verdict(difference, rule="better", margin=0.01, floor=0.1, over_chance=CLEAR, average_precision=0.6):
    champion = "version 3 (0.5000)" if difference else None
    return decide("extra_trees", average_precision, floor, over_chance, champion, difference, rule, margin)


def interval(low, high):
    return Difference(estimate=(low + high) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("difference", "rule", "decision"),
    [
        (interval(0.001, 0.02), "better", "promote"),
        (interval(0.0, 0.02), "better", "keep"),
        (interval(-0.001, 0.02), "better", "keep"),
        (interval(-0.02, -0.01), "better", "keep"),
        (interval(-0.009, 0.001), "not_worse", "promote"),
        (interval(-0.010, 0.001), "not_worse", "keep"),
        (interval(-0.03, 0.05), "not_worse", "keep"),
    ],
)
def test_the_rules(difference, rule, decision):
    found, sentence = verdict(difference, rule)
    assert found == decision
    assert sentence.startswith("extra_trees (average precision 0.6000)")
    assert "version 3" in sentence
    assert f"{difference.low:+.4f} to {difference.high:+.4f}" in sentence


def test_the_first_model_needs_no_champion_but_the_floors():
    assert verdict(None)[0] == "promote"
    assert verdict(None, floor=0.7)[0] == "keep"
    assert verdict(None, over_chance=interval(-0.001, 0.1))[0] == "keep"


@pytest.mark.parametrize("rule", ["better", "not_worse"])
def test_no_better_than_the_fraud_rate_is_never_promoted(rule):
    found, sentence = verdict(interval(0.2, 0.3), rule, margin=1.0, floor=0.0, over_chance=interval(0.0, 0.1))
    assert found == "keep"
    assert "fraud rate" in sentence


def test_below_the_floor_is_never_promoted():
    found, sentence = verdict(interval(0.2, 0.3), floor=0.61)
    assert found == "keep"
    assert "floor of 0.61" in sentence
