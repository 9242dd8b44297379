"""Negative controls of the drill, each with real servers: what is broken is what the verdict names."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.integration.alerting.chain import PROGRAMS, program
from tests.integration.alerting.controls import AFTER, BEFORE
from tests.integration.alerting.scenario import Outcome, Scenario, play

AT_ONCE = 3
DEBIAN = [names[0] for names in PROGRAMS.values()]
SCENARIOS = {f"{'before' if one.refused else 'after'}: {one.name}": one for one in [*AFTER, *BEFORE]}
Runs = dict[str, Future[Outcome]]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """All scenarios that were asked for, several at once."""
    missing = [name for name in PROGRAMS if not program(name)]
    if missing:
        said = (
            f"not on PATH: {', '.join(missing)} (Debian: prometheus, prometheus-alertmanager, prometheus-pushgateway)"
        )
        if os.environ.get("CI"):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    asked = [item.callspec.params["name"] for item in request.session.items if _plays(item)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {name: pool.submit(play, SCENARIOS[name]) for name in dict.fromkeys(asked)}
        try:
            yield futures
        finally:
            for future in futures.values():
                future.cancel()


def _plays(item: pytest.Item) -> bool:
    return item.path.name == "test_controls.py" and hasattr(item, "callspec")


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_verdict(name: str, runs: Runs) -> None:
    scenario: Scenario = SCENARIOS[name]
    outcome = runs[name].result()
    judged = outcome.judged
    assert (judged.verdict, judged.cause) == (scenario.verdict, scenario.cause), f"{judged.evidence}\n{outcome.log}"
    assert outcome.preflight_exit == (3 if scenario.refused else 0)
    assert all(judged.evidence)
    assert outcome.left == []
    if scenario.name == "the group is open":
        assert outcome.plan is not None
        assert outcome.plan.timing.group == "open"
        assert outcome.plan.expected_seconds.max == 4 + 3 * 1 + 5 + 3  # group_interval in the place of group_wait
        assert any("group_open" in note for note in judged.notes)
