"""One drill without a load: the attack's part is played by what the fake replicas are set to."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.alerting.evidence import Watched
from include.alerting.judge import Judged, judge
from include.alerting.plan import ALERT, Drill
from include.alerting.pushgateway import encoded
from tests.integration.alerting.chain import Chain
from tests.integration.alerting.relays import wait_until

Break = Callable[[Chain], None]
DRILL = "manual__2026-11-21T11:00:00+00:00"
ATTACK = f"job/attack/run@base64/{encoded(DRILL)}"
FLAGS: dict[str, Any] = {
    "drill": DRILL,
    "stages": "50x1,1500x2",
    "quiet_rate": 50,
    "max_minutes": 2,
    "recovery_seconds": 30,
    "delivery_allowance": 3,
    "for_seconds": 5,
    "calm_seconds": 0,
}
QUIET_SECONDS = 2.0
LOAD_SECONDS = 40.0  # longer than everything that can be waited for


def nothing(_: Chain) -> None:
    pass


@dataclass(frozen=True)
class Load:
    """What the replicas do once the quiet stage is over."""

    ready: int = 6
    cpu: float = 0.95
    others: float = 0.2  # what the other replicas use of what the hottest uses
    cools: bool = False  # the CPU becomes low in mid-`for`
    gap: bool = False  # no replica answers a scrape for a while in mid-`for`
    quiet_pages: bool = False  # the quiet stage is as hot as the load
    seconds: float = LOAD_SECONDS


@dataclass(frozen=True)
class Scenario:
    """What is broken when, and what must be said of it."""

    name: str
    verdict: str
    cause: str
    before: Break = nothing  # before the preflight
    after: Break = nothing  # after it, before the load
    at_load: Break = nothing  # when the load has been there for a second
    load: Load = field(default_factory=Load)
    refused: bool = False  # by the preflight


@dataclass
class Outcome:
    """All that a scenario left."""

    judged: Judged
    plan: Drill | None = None
    watched: Watched | None = None
    attack: dict[str, Any] | None = None
    preflight_exit: int | None = 0
    log: str = ""
    left: list[str] = field(default_factory=list)  # in the Pushgateway, after `stop`


def play(scenario: Scenario) -> Outcome:
    """Run it with servers of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True)))
        chain = Chain(folder)
        stack.callback(chain.close)
        scenario.before(chain)
        preflight = chain.step("preflight", **FLAGS).wait(150)
        answer = chain.answer("preflight")
        if preflight != 0:
            log = (folder / "preflight.log").read_text()
            return Outcome(judge(None, None, None, answer), preflight_exit=preflight, log=log)
        plan = Drill.model_validate(answer)
        scenario.after(chain)
        watch = chain.step("watch", plan=answer)
        attack = play_attack(chain, scenario, lambda: watch.poll() is not None)
        watch.wait(200)
        log = (folder / "watch.log").read_text()
        watched = Watched.model_validate(chain.answer("watch"))
        assert chain.pushed()
        assert chain.step("stop", drill=DRILL).wait(100) == 0, (folder / "stop.log").read_text()
        return Outcome(judge(plan, attack, watched), plan, watched, attack, 0, log, chain.pushed())


def play_attack(chain: Chain, scenario: Scenario, watch_ended: Callable[[], bool]) -> dict[str, Any]:
    """The answer of an attack that was none: metrics, stages and totals as the load test has them."""
    load, began = scenario.load, time.time()
    chain.push(ATTACK, {"attack_running": 1, "attack_target_rate": 50})
    if load.quiet_pages:
        chain.replicas.set(6, 0.95)
        _wait(began + 60, chain, watch_ended)
        quiet_until = time.time()
    else:
        time.sleep(QUIET_SECONDS)
        quiet_until = time.time()
        chain.replicas.set(load.ready, load.cpu, load.others)
        chain.push(ATTACK, {"attack_target_rate": 1500})
        time.sleep(1)
        scenario.at_load(chain)
        if load.cools or load.gap:
            pending = f'ALERTS{{alertname="{ALERT}", alertstate="pending"}}'
            wait_until("the rule is pending", lambda: chain.query(pending), 90)
            time.sleep(1.5)
        if load.cools:
            chain.replicas.set(load.ready, 0.5)
            time.sleep(6)
        if load.gap:
            chain.replicas.reachable = False
            time.sleep(6)
            chain.replicas.reachable = True
        else:
            _wait(quiet_until + load.seconds, chain, watch_ended)
    ended = time.time()
    chain.replicas.set(4, 0.1)
    chain.push(ATTACK, {"attack_running": 0, "attack_target_rate": 0, "attack_ended_timestamp_seconds": ended})
    return {
        "run": DRILL,
        "started": began,
        "ended": ended,
        "stopped_by": "stop_when",
        "stages": [
            {"name": "50/s", "kind": "stage", "rate": 50, "began": began, "ended": quiet_until},
            {"name": "1500/s", "kind": "stage", "rate": 1500, "began": quiet_until, "ended": ended},
        ],
        "totals": {"sent": 1000, "acked": 1000, "failed": 0, "unknown": 0, "predicted": 1000, "unaccounted": 0},
    }


def _wait(until: float, chain: Chain, watch_ended: Callable[[], bool]) -> None:
    """Until the drill says that the load may stop."""
    while time.time() < until and not watch_ended():
        with contextlib.suppress(Exception):  # Prometheus may be what is broken
            if chain.query(f'alert_drill_over{{drill="{DRILL}"}} == 1'):
                return
        chain.push(ATTACK, {"attack_running": 1})
        time.sleep(0.3)
