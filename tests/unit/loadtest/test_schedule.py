"""Each message has its due time, whatever the rate does."""

import pytest
from pydantic import ValidationError

from include.loadtest.form import AttackForm
from include.loadtest.schedule import NANOSECONDS, Leg, Schedule, Surge, parse_stages


def due_seconds(leg):
    return [(leg.due(nth) - leg.began) / NANOSECONDS for nth in range(leg.count)]


def test_a_constant_rate_is_even():
    (leg,) = parse_stages("50x2")
    assert leg.count == 100
    assert due_seconds(leg) == pytest.approx([nth / 50 for nth in range(100)], abs=1e-9)


@pytest.mark.parametrize("text", ["50-500x3", "500-50x3", "1-1000x7.5", "0.5-2x4"])
def test_a_ramp_has_sent_the_integral_of_its_rate(text):
    (leg,) = parse_stages(text)
    grows = (leg.end_rate - leg.rate) / leg.seconds
    for nth, at in enumerate(due_seconds(leg)):
        assert leg.rate * at + grows * at * at / 2 == pytest.approx(nth, abs=1e-4)
        assert 0 <= at < leg.seconds


def test_legs_follow_without_a_gap():
    legs = list(Schedule(parse_stages("50x2, 200x3,100-300x1")).run(begin=1_000))
    assert [leg.name for leg in legs] == ["50/s", "200/s", "100-300/s"]
    assert [leg.began for leg in legs] == [1_000, 1_000 + 2 * NANOSECONDS, 1_000 + 5 * NANOSECONDS]
    assert [leg.first for leg in legs] == [0, 100, 700]
    assert [leg.due(0) for leg in legs] == [leg.began for leg in legs]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "stage ''"),
        ("50", "stage '50' is not rate x seconds"),
        ("50x10,,200x5", "stage ''"),
        ("50 x 10", "50x60,200x60"),
        ("-5x10", "stage '-5x10'"),
        ("0x10", "a rate is above 0"),
        ("50x0", "lasts above 0"),
        ("100001x5", "at most 100,000 a second"),
        ("50x90000", "at most 86,400 s"),
        (",".join(["50x1"] * 51), "51 stages"),
    ],
)
def test_what_is_no_stage_is_named(text, what):
    with pytest.raises(ValueError, match=what):
        parse_stages(text)


def test_the_form_reads_stages_too():
    assert AttackForm().stages
    with pytest.raises(ValidationError, match="'fast' is not rate x seconds"):
        AttackForm(stages="fast")


def surge_rates(enough, steps, cap=400.0):
    """Rate and length of each leg of a surge after 100/s, when `enough` answers so in turn."""
    answers = iter(enough)
    schedule = Schedule(parse_stages("100x1"), Surge(1.5, 10, cap, lambda: next(answers)))
    legs = schedule.run(0)
    for _ in range(1 + steps):
        next(legs)
    return [(leg.rate, leg.seconds) for leg in schedule.legs[1:]]


def test_a_surge_raises_the_rate_until_the_cap_and_holds_it():
    assert surge_rates([False] * 99, steps=6) == [(150, 10), (225, 10), (337.5, 10), (400, 30)]


def test_a_surge_holds_while_it_is_enough_and_goes_on_when_it_is_not():
    assert surge_rates([False, False, True, True, False, False], steps=5) == [(150, 10), (225, 30), (337.5, 10)]


def test_a_surge_does_not_lower_the_rate_to_its_cap():
    assert surge_rates([False] * 99, steps=2, cap=50) == [(100, 20)]


def test_a_longer_leg_counts_its_messages_on():
    leg = Leg("surge", 3, 3, 1.0)
    before = [leg.due(nth) for nth in range(leg.count)]
    leg.seconds += 1.0
    assert [leg.due(nth) for nth in range(leg.count)][: len(before)] == before
    assert leg.count == 6
