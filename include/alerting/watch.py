"""Step: follow the alert from the load to the receipt, and see it end.

`python -m include.alerting.watch --plan "$(cat plan.json)"`

Runs beside the attack. It only notes what happens and when; `include.alerting.judge` says what it means. It tells the
attack to stop (`alert_drill_over`) when the alert has arrived by every channel, or will not arrive any more.
"""

import logging
import time
from collections.abc import Callable

from include.alerting.alertmanager import Alertmanager
from include.alerting.chart_lines import chart_lines
from include.alerting.diagnosis import why_not_delivered
from include.alerting.evidence import AlertState, Away, ChannelState, Look, RuleState, Watched, receipts_of
from include.alerting.message import unix
from include.alerting.plan import ALERT, CPU, EACH_CPU, RECEIVER, REPLICAS, Drill
from include.alerting.prometheus import Prometheus, Rule, metrics_of
from include.alerting.pushgateway import JOB, OVER, Pushgateway
from include.alerting.receipts import messages
from include.alerting.web import Away as ServerAway
from include.command import StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

MOST_LOOKS = 300  # told; the answer is handed on as one argument of a command, which may have 128 KiB
LONGEST_LOOK, SHORTEST_LOOK = 5.0, 0.5
ATTACK_BEGINS_WITHIN = 120.0  # a pod is started for it
ATTACK_SILENT_AFTER = 30.0  # it reports at least every 5 s


class Args(StepArgs):
    """What is watched."""

    plan: Drill


def main(args: Args) -> Watched:
    """Answer: what happened, with its times. Ends at the plan's deadline at the latest."""
    return Watch(args.plan).run()


class Watch:
    """One drill under way."""

    def __init__(self, plan: Drill) -> None:
        self._plan = plan
        self._prometheus = Prometheus(settings().prometheus_url)
        self._alertmanager = Alertmanager(settings().alertmanager_url)
        self._pushgateway = Pushgateway(settings().pushgateway_url)
        self._pause = min(LONGEST_LOOK, max(SHORTEST_LOOK, plan.timing.scrape / 2))
        self._counts: dict[str, float] = {}
        self._seen = Watched(began=time.time(), ended=0, over_at=None, hopeless="")
        self._asked_inbox_until = plan.started

    def run(self) -> Watched:
        """Watch until all has been seen that can be seen."""
        seen, plan = self._seen, self._plan
        while not seen.hopeless and not self._all_arrived("firing") and time.time() < plan.deadline:
            self._look()
            seen.hopeless = "" if self._all_arrived("firing") else self._hopeless()
            time.sleep(self._pause)
        if time.time() >= plan.deadline and not self._all_arrived("firing"):
            seen.hopeless = seen.hopeless or "the plan's deadline has passed"
        self._over()
        if seen.hopeless:
            log.warning("the load may stop: %s", seen.hopeless)
            self._ask_why()
        else:
            self._recover()
        seen.ended = time.time()
        seen.looks = thin(seen.looks, MOST_LOOKS)
        self._reach("Prometheus", lambda: setattr(seen, "lines", chart_lines(self._prometheus, plan, seen.ended)))
        return seen

    def _recover(self) -> None:
        """The load ends; wait for the end to be told and for the replicas to go."""
        seen, plan = self._seen, self._plan
        until = min(time.time() + plan.recovery_seconds, plan.deadline)
        while time.time() < until and not (self._all_arrived("resolved") and seen.back_at):
            time.sleep(self._pause)
            before = len(seen.looks)
            self._look()
            for now in seen.looks[before:]:  # none while Prometheus is away
                if now.replicas is not None and now.replicas <= plan.least_replicas and not seen.back_at:
                    seen.back_at = now.at
                    self._note(f"back at {now.replicas:g} replicas")

    def _all_arrived(self, status: str) -> bool:
        plan, seen = self._plan, self._seen
        wanted = plan.alert.proved() if status == "firing" else seen.must_tell_the_end(plan)
        return set(wanted) <= set(seen.received(plan, status))

    def _look(self) -> None:
        """Ask everybody once. Who does not answer is noted and asked again the next time."""
        self._reach("Prometheus", self._look_at_prometheus)
        self._reach("Alertmanager", self._look_at_alertmanager)
        self._reach("the inbox", self._look_at_inbox)

    def _look_at_prometheus(self) -> None:
        plan, seen = self._plan, self._seen
        attack = "attack_running|attack_target_rate|attack_ended_timestamp_seconds|push_time_seconds"
        asked = (
            f'{{__name__=~"{CPU}|{REPLICAS}"}} or {{__name__=~"{attack}",run="{plan.drill}"}} '
            f'or label_replace(sum(up{{job="{plan.job}"}}), "what", "targets", "", "") '
            f'or label_replace(avg({EACH_CPU}), "what", "mean", "", "")'
        )
        found: dict[str, float] = {}
        for sample in self._prometheus.query(asked):
            name = sample.labels.get("__name__") or sample.labels.get("what", "")
            found[name] = max(sample.value, found.get(name, sample.value))
        look = Look(
            at=round(time.time(), 3),
            replicas=found.get(REPLICAS),
            cpu=round(found[CPU], 4) if CPU in found else None,
            mean_cpu=round(found["mean"], 4) if "mean" in found else None,
            targets=found.get("targets"),
            rate=found.get("attack_target_rate"),
        )
        seen.looks.append(look)
        self._look_at_attack(found, look.at)
        rule = self._prometheus.rule(ALERT)
        if rule is None:
            state = RuleState(at=look.at, state="missing")
        elif rule.health == "err":
            state = RuleState(at=look.at, state="unhealthy", error=rule.error)
        elif rule.state == "inactive" and rule.query != plan.alert.query:
            state = self._of_changed(rule, look.at)
        else:
            actives = [unix(one["activeAt"]) for one in rule.alerts]
            state = RuleState(at=look.at, state=rule.state, active_at=min(actives, default=None))
        last = seen.rule[-1] if seen.rule else None
        if last is None or (last.state, last.active_at) != (state.state, state.active_at):
            seen.rule.append(state)
            self._note(f"the rule is {state.state} {state.error}".strip())

    def _of_changed(self, rule: Rule, now: float) -> RuleState:
        """It is not the rule of the preflight: what of it can never be true?"""
        empty = [metric for metric in metrics_of(rule.query) if not self._prometheus.query(metric)]
        said = f"the rule was changed to: {rule.query}"
        if empty:
            return RuleState(at=now, state="reads nothing", error=f"{said}; no sample of {', '.join(empty)}")
        return RuleState(at=now, state="changed", error=said)

    def _look_at_attack(self, found: dict[str, float], now: float) -> None:
        seen = self._seen
        ended, pushed = found.get("attack_ended_timestamp_seconds"), found.get("push_time_seconds")
        if found.get("attack_running") == 1:
            seen.attack_began = seen.attack_began or now
        if ended and ended >= self._plan.started and not seen.attack_ended:
            seen.attack_began = seen.attack_began or ended
            seen.attack_ended, seen.attack_silent = ended, False
            self._note("the load has ended")
        elif seen.attack_began and not seen.attack_ended and pushed and now - pushed > ATTACK_SILENT_AFTER:
            seen.attack_ended, seen.attack_silent = pushed, True
            self._note("the attack is silent")

    def _look_at_alertmanager(self) -> None:
        plan, seen = self._plan, self._seen
        self._counts = self._counts or self._alertmanager.counts()
        ours = None
        for alert in self._alertmanager.alerts(ALERT):
            if alert["labels"].get("drill") == "true" and unix(alert["startsAt"]) >= plan.started:
                ours = alert
        if ours is None:
            if seen.alert and seen.alert[-1].state != "gone":
                seen.alert.append(AlertState(at=time.time(), state="gone"))
            return
        if not seen.fingerprint:
            seen.fingerprint, seen.starts_at = ours["fingerprint"], unix(ours["startsAt"])
        state = AlertState(
            at=time.time(),
            state=ours["status"]["state"],
            silenced_by=ours["status"]["silencedBy"],
            inhibited_by=ours["status"]["inhibitedBy"],
            receivers=[receiver["name"] for receiver in ours["receivers"]],
        )
        if not seen.alert or seen.alert[-1].model_copy(update={"at": state.at}) != state:
            seen.alert.append(state)
            self._note(f"Alertmanager has the alert: {state.state}, for {', '.join(state.receivers)}")

    def _look_at_inbox(self) -> None:
        for message in messages(settings().inbox_url, self._asked_inbox_until):
            for receipt in receipts_of(message):
                self._seen.receipts.append(receipt)
                self._note(f"{receipt.channel}: {receipt.status} {ALERT} {receipt.fingerprint}")
            self._asked_inbox_until = max(self._asked_inbox_until, message.received_at + 0.001)

    def _hopeless(self) -> str:
        """Why the alert will not arrive any more; empty while it still may."""
        plan, seen, now = self._plan, self._seen, time.time()
        timing = plan.timing
        firing = seen.firing_at()
        if firing:
            # Longer than it may take, so that one that is late is seen to be late.
            patience = timing.wait + timing.evaluation + 3 * timing.delivery_allowance
            if now > firing + patience:
                return f"it fires since {now - firing:.0f} s, and has not arrived by every channel"
            return ""
        gone = next((one for one in seen.away if one.server == "Prometheus" and one.until is None), None)
        longest = timing.hold_in_evaluations + 4 * timing.scrape + timing.delivery_allowance
        if gone and now - gone.since > longest:
            return f"Prometheus has been away for {now - gone.since:.0f} s"
        if seen.attack_ended and now > seen.attack_ended + plan.expected_seconds.max + timing.delivery_allowance:
            return f"the load ended {now - seen.attack_ended:.0f} s ago and the alert does not fire"
        if not seen.attack_began and not gone and now > plan.started + ATTACK_BEGINS_WITHIN:
            return f"the attack has not begun within {ATTACK_BEGINS_WITHIN:.0f} s"
        return ""

    def _over(self) -> None:
        self._seen.over_at = time.time()
        self._reach("the Pushgateway", lambda: self._pushgateway.push(JOB, {"drill": self._plan.drill}, {OVER: 1}))

    def _ask_why(self) -> None:
        """Ask the channels that are missing, when it is they who failed."""
        seen, alert = self._seen, self._plan.alert
        last = next((one for one in reversed(seen.alert) if one.state != "gone"), None)
        if last is None or last.state != "active" or RECEIVER not in last.receivers:
            return
        arrived = seen.received(self._plan, "firing")
        for kind in alert.proved():
            if kind not in arrived:
                cause, said = why_not_delivered(alert.channels, [kind], self._counts, self._alertmanager)
                seen.missing[kind] = ChannelState(cause=cause, evidence=said)

    def _reach(self, server: str, ask: Callable[[], None]) -> None:
        seen = self._seen
        gone = next((one for one in seen.away if one.server == server and one.until is None), None)
        try:
            ask()
        except ServerAway as error:
            if gone is None:
                seen.away.append(Away(server=server, since=time.time(), said=str(error)))
                log.warning("%s", error)
        else:
            if gone is not None:
                gone.until = time.time()
                log.info("%s answers again", server)

    def _note(self, what: str) -> None:
        log.info("%7.1f s: %s", time.time() - self._plan.started, what)


def thin(looks: list[Look], most: int) -> list[Look]:
    """Fewer looks, and yet each that is not like its neighbours."""
    if len(looks) <= most:
        return looks
    apart = (looks[-1].at - looks[0].at) / (most / 2)
    kept = [looks[0]]
    for before, look, after in zip(looks, looks[1:], looks[2:], strict=False):
        if look.kind() != before.kind() or look.kind() != after.kind() or look.at - kept[-1].at >= apart:
            kept.append(look)
    return [*kept, looks[-1]]


if __name__ == "__main__":
    run(main)
