"""Shorter times of rules and routing."""

from fractions import Fraction

import pytest
import yaml

from include.code_version import ROOT
from include.local import compression
from include.local.state import StackError

RULES = sorted((ROOT / "deploy" / "rules").glob("*.yaml"))
ROUTING = ROOT / "deploy" / "alertmanager" / "alertmanager.yaml"
ONE, FIFTEEN = Fraction(1), Fraction(15)


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_factor_one_changes_no_byte_of_the_rules(file):
    assert compression.rules(file.read_text(), ONE) == file.read_text()


def test_factor_one_changes_no_byte_of_the_routing():
    assert compression.routing(ROUTING.read_text(), ONE) == ROUTING.read_text()


@pytest.mark.parametrize(
    ("written", "shorter"),
    [
        ("for: 5m", "for: 20s"),
        ("for: 15m # where", "for: 60s # where"),
        ("rate(x[1m])", "rate(x[4s])"),
        ("rate(x[5m])", "rate(x[20s])"),
        ("max_over_time(up[45s])", "max_over_time(up[3s])"),
        ("for: 10s", "for: 667ms"),
        ("x > 26 * 3600", "x > 26 * 3600"),
        ("description: slow for five minutes, 5m", "description: slow for five minutes, 5m"),
    ],
)
def test_times_of_rules_are_divided(written, shorter):
    assert compression.rules(written, FIFTEEN) == shorter


def test_every_time_of_the_real_rules_is_divided_and_nothing_else():
    for file in RULES:
        before, after = (
            list(_rules(text)) for text in (file.read_text(), compression.rules(file.read_text(), FIFTEEN))
        )
        for old, new in zip(before, after, strict=True):
            assert {**old, "for": "", "expr": ""} == {**new, "for": "", "expr": ""}
            if "for" in old:
                assert _seconds(old["for"]) == 15 * _seconds(new["for"])
            if "[" in old["expr"]:
                assert old["expr"] != new["expr"]


def test_a_window_holds_as_many_scrapes_at_every_factor():
    for factor in (FIFTEEN, Fraction(30), Fraction(60)):
        assert compression.scrape_seconds(factor) == 1
        assert compression.rules("x[1m]", factor) == "x[4s]"
    assert compression.rules("for: 5m", Fraction(30)) == "for: 10s"


def test_waits_of_the_routing_are_divided():
    routes = yaml.safe_load(compression.routing(ROUTING.read_text(), FIFTEEN))["route"]
    assert (routes["group_wait"], routes["group_interval"], routes["repeat_interval"]) == ("2s", "20s", "2880s")
    heartbeat = routes["routes"][1]
    assert (heartbeat["group_wait"], heartbeat["group_interval"], heartbeat["repeat_interval"]) == ("0s", "4s", "4s")


@pytest.mark.parametrize("said", ["0", "-1", "0.5", "61", "fast", "", "1/0", "nan"])
def test_factor_that_makes_no_sense_is_refused(said):
    with pytest.raises(StackError, match=r"MLOPS_TIME_COMPRESSION is .* from 1 to 60"):
        compression.factor_of(said)


def test_factor_may_be_a_fraction():
    assert compression.scrape_seconds(compression.factor_of("2.5")) == 6


def _rules(text):
    return (rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"])


def _seconds(duration):
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]
