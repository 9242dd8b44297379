"""Step: what became of the drill: the verdict names the first broken link.

`python -m include.alerting.judge --preflight … --attack … --watch …`

The answer is always given (exit code 0); `include.alerting.verdict` makes the run fail on it.
"""

import logging
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from include.alerting.evidence import Look, Watched
from include.alerting.plan import ALERT, RECEIVER, THRESHOLD, Drill
from include.command import StepArgs, run

log = logging.getLogger(__name__)

RECEIVED = "ALERT_RECEIVED"
STOPPED_FROM_OUTSIDE = {"signal": "attack_killed", "stop_file": "stop_file", "prometheus_silent": "prometheus_silent"}


class Args(StepArgs):
    """What the steps before said, be it an answer or an error; empty when they never came to say anything."""

    preflight: dict[str, Any] = Field(default_factory=dict)
    attack: dict[str, Any] = Field(default_factory=dict)
    watch: dict[str, Any] = Field(default_factory=dict)


class Link(BaseModel):
    """One link: when it was there, and how many seconds after the link before, expected at most and measured."""

    link: str
    at: float | None
    expected: float | None = None
    measured: float | None = None


class Finding(BaseModel):
    """What breaks the chain."""

    verdict: str
    cause: str
    evidence: list[str]


class Judged(Finding):
    """The answer."""

    drill: str
    said: str
    links: list[Link]
    notes: list[str]
    seconds_to_receipt: dict[str, float] = Field(description="by channel, from the moment when the condition held")


def main(args: Args) -> Judged:
    """Answer: verdict, cause, evidence and the chain, link by link."""
    plan, attack, watched = facts(args.preflight, args.attack, args.watch)
    judged = judge(plan, attack, watched, None if plan else args.preflight)
    log.info("%s", judged.said)
    return judged


def facts(
    preflight: dict[str, Any], attack: dict[str, Any], watch: dict[str, Any]
) -> tuple[Drill | None, dict[str, Any] | None, Watched | None]:
    """The plan, the attack and what was seen, each only if it came to be."""
    return (
        Drill.model_validate({name: preflight[name] for name in Drill.model_fields}) if "alert" in preflight else None,
        attack if "stages" in attack else None,
        Watched.model_validate(watch) if "looks" in watch else None,
    )


def judge(
    plan: Drill | None,
    attack: dict[str, Any] | None,
    watch: Watched | None,
    preflight_error: dict[str, Any] | None = None,
) -> Judged:
    """The first broken link, in the order of the chain."""
    name = plan.drill if plan else ""
    if preflight_error and preflight_error.get("verdict"):
        found = Finding.model_validate({key: preflight_error[key] for key in ("verdict", "cause", "evidence")})
        return _judged(name, found, [], [], {})
    if plan is None:
        said = str((preflight_error or {}).get("error") or "the preflight gave no plan")
        return _judged(name, Finding(verdict="ABORTED", cause="no_plan", evidence=[said]), [], [], {})
    if watch is None:
        found = Finding(verdict="ABORTED", cause="watch_died", evidence=["the watch gave no answer: see its log"])
        return _judged(name, found, [], list(plan.notes), {})
    found = next(_findings(plan, attack or {}, watch), None) or Finding(
        verdict=RECEIVED, cause="", evidence=_well(plan, watch)
    )
    notes = [*plan.notes]
    if plan.timing.group != "new":
        notes.append(
            f"cause group_open: expected is up to {plan.timing.wait:g} s (group_interval) instead of "
            f"{plan.timing.group_wait:g} s (group_wait)"
        )
    off = [stage["name"] for stage in (attack or {}).get("stages", []) if stage.get("off_rate")]
    if off:
        notes.append(f"off their rate by more than 1 %: {', '.join(off)}")
    notes += [f"{one.server} did not answer for {(one.until or watch.ended) - one.since:.0f} s" for one in watch.away]
    start = condition_at(plan, watch)
    took = {kind: round(at - start, 2) for kind, at in watch.received(plan, "firing").items()} if start else {}
    return _judged(name, found, _links(plan, attack or {}, watch), notes, took)


def _judged(drill: str, found: Finding, links: list[Link], notes: list[str], took: dict[str, float]) -> Judged:
    said = f"{found.verdict}{f' ({found.cause})' if found.cause else ''}: {found.evidence[0]}"
    return Judged(**found.model_dump(), drill=drill, said=said, links=links, notes=notes, seconds_to_receipt=took)


def _findings(plan: Drill, attack: dict[str, Any], watch: Watched) -> Iterator[Finding]:
    """What is broken, in the order of the chain."""
    firing = watch.firing_at()
    received = watch.received(plan, "firing")
    complete = set(plan.alert.proved()) <= set(received)
    yield from _false_alarm(plan, attack, firing)
    if not complete:
        if firing is None:
            yield from _before_the_rule_fires(plan, attack, watch)
        else:
            yield from _after_the_rule_fires(plan, watch, received)
    yield from _late(plan, watch, received)
    yield from _not_over(plan, watch)
    totals = attack.get("totals") or {}
    if totals.get("unaccounted"):
        said = f"{totals['unaccounted']} of {totals.get('sent')} messages are neither scored nor dead letters"
        yield Finding(verdict="MESSAGES_LOST", cause="unaccounted", evidence=[said])
    if complete and not attack:
        said = "the alert arrived, but the attack gave no answer: nobody knows what it sent"
        yield Finding(verdict="ABORTED", cause="attack_killed", evidence=[said])


def _false_alarm(plan: Drill, attack: dict[str, Any], firing: float | None) -> Iterator[Finding]:
    quiet = [one for one in attack.get("stages", []) if one["kind"] == "stage" and one["rate"] <= plan.quiet_rate]
    if quiet and firing and firing <= quiet[-1]["ended"] + 2 * plan.timing.evaluation:
        said = (
            f"the rule fired {firing - plan.started:.1f} s after the start, while {quiet[-1]['rate']:g} messages a "
            f"second were held, which must not page (quiet up to {plan.quiet_rate:g})"
        )
        yield Finding(verdict="FALSE_ALARM", cause="paged_in_quiet_stage", evidence=[said])


def _before_the_rule_fires(plan: Drill, attack: dict[str, Any], watch: Watched) -> Iterator[Finding]:
    stopped = str(attack.get("stopped_by") or "")
    gone = [one for one in watch.away if one.server == "Prometheus"]
    if gone and (gone[-1].until is None or gone[-1].until - gone[-1].since > plan.timing.hold):
        said = f"Prometheus did not answer from {gone[-1].since - plan.started:.0f} s after the start: {gone[-1].said}"
        yield Finding(verdict="PROMETHEUS_UNREACHED", cause="prometheus_down", evidence=[said])
    if stopped in STOPPED_FROM_OUTSIDE:
        said = f"the attack ended by {stopped} before the alert"
        yield Finding(verdict="ABORTED", cause=STOPPED_FROM_OUTSIDE[stopped], evidence=[said])
    if not attack or watch.attack_silent:
        cause = "attack_killed" if watch.attack_began else "attack_never_began"
        said = "the attack gave no answer" if not attack else "the attack fell silent without saying that it ended"
        yield Finding(verdict="ABORTED", cause=cause, evidence=[said, watch.hopeless])
    for state in watch.rule:
        if state.state == "missing":
            said = f"{ALERT} was not loaded any more {state.at - plan.started:.0f} s after the start"
            yield Finding(verdict="RULE_MISSING", cause="rule_missing", evidence=[said])
        if state.state == "unhealthy":
            yield Finding(verdict="RULE_MISSING", cause="rule_unhealthy", evidence=[state.error])
        if state.state == "reads nothing":
            yield Finding(verdict="METRIC_MISSING", cause="wrong_metric", evidence=[state.error])
    yield from _condition(plan, attack, watch)


def _condition(plan: Drill, attack: dict[str, Any], watch: Watched) -> Iterator[Finding]:
    """Load, metrics, replicas, CPU: what the rule reads."""
    looks = watch.looks
    sighted = [one for one in looks if not one.blind]
    if looks and (not sighted or (looks[-1].blind and not _held(plan, sighted))):
        dark = next(one for one in looks if one.blind)
        absent = "CPU" if dark.cpu is None else "replicas" if dark.replicas is None else "targets"
        said = f"no sample of the {absent} from {dark.at - plan.started:.0f} s after the start on"
        yield Finding(verdict="METRIC_MISSING", cause="no_samples", evidence=[said])
    most = max((one.replicas or 0 for one in sighted), default=0)
    at_most = [one for one in sighted if (one.replicas or 0) >= plan.most_replicas]
    hottest = max((one.cpu or 0 for one in sighted), default=0)
    load = _load(attack)
    figures = f"at most {most:g} replicas were ready, the hottest was at {hottest:.0%}; {load.evidence[0]}"
    if load.cause in ("broker_down", "scorer_down"):
        yield Finding(verdict="LOAD_NOT_REACHED", cause=load.cause, evidence=[*load.evidence, figures])
    if not at_most:
        # One hot replica among idle ones is no reason to scale: an autoscaler acts on the mean.
        hot = [one for one in sighted if (one.cpu or 0 if one.mean_cpu is None else one.mean_cpu) > THRESHOLD]
        long_hot = len(hot) > 1 and hot[-1].at - hot[0].at >= plan.timing.hold
        if long_hot:
            cause = "max_replicas" if most > plan.least_replicas else "no_scaling"
            said = f"the CPU of all was above {THRESHOLD:.0%} for {hot[-1].at - hot[0].at:.0f} s, yet {figures}"
            yield Finding(verdict="NOT_SCALED", cause=cause, evidence=[said])
        yield Finding(verdict="LOAD_NOT_REACHED", cause=load.cause, evidence=[figures])
    held = _held(plan, sighted)
    if not held:
        hottest = max(one.cpu or 0 for one in at_most)
        said = f"{plan.most_replicas} replicas were ready, but the hottest of them was at {hottest:.0%} only"
        cause = "load_capped" if load.cause == "load_capped" else "cpu_never_high"
        yield Finding(verdict="CPU_NOT_SUSTAINED", cause=cause, evidence=[said, *load.evidence])
    longest = max(spell[-1].at - spell[0].at for spell in held)
    if gap := _gap(plan, looks):
        said = (
            f"no target was scraped from {gap[0] - plan.started:.0f} s to {gap[1] - plan.started:.0f} s after the "
            f"start: the rule could not know of the load, and its `for` ({plan.timing.hold:g} s) began again"
        )
        yield Finding(verdict="CPU_NOT_SUSTAINED", cause="scrape_gap", evidence=[said])
    if longest < plan.timing.hold_in_evaluations:
        spell = max(held, key=lambda one: one[-1].at - one[0].at)
        after = next((one for one in sighted if one.at > spell[-1].at), None)
        said = f"the condition held for {longest:.1f} s at most, the rule asks for {plan.timing.hold:g} s"
        ended = watch.attack_ended
        early = ended is not None and (after is None or after.at >= ended)
        fewer = after is not None and (after.replicas or 0) < plan.most_replicas
        cause = "load_ended_early" if early else "replicas_dropped" if fewer else "cpu_dropped"
        verdict = "NOT_SCALED" if cause == "replicas_dropped" else "CPU_NOT_SUSTAINED"
        yield Finding(verdict=verdict, cause=cause, evidence=[said, *load.evidence])
    changed = [state.error for state in watch.rule if state.state == "changed"]
    said = f"the condition held for {longest:.1f} s, `for` is {plan.timing.hold:g} s, and the rule does not fire"
    yield Finding(
        verdict="RULE_NOT_FIRING", cause="rule_changed" if changed else "not_evaluated", evidence=[said, *changed]
    )


def _load(attack: dict[str, Any]) -> Finding:
    """Why there was no more load."""
    totals = attack.get("totals") or {}
    stages = attack.get("stages") or []
    fastest = max((stage["rate"] for stage in stages), default=0)
    said = [
        f"the attack reached {fastest:g} messages a second and ended by {attack.get('stopped_by')}: "
        f"{totals.get('acked', 0)} acked, {totals.get('failed', 0)} failed, {totals.get('unknown', 0)} unknown, "
        f"{totals.get('predicted', 0)} scored"
    ]
    if attack.get("stopped_by") == "error_budget":
        cause = "broker_down"
    elif totals.get("acked") and totals.get("predicted", 0) + totals.get("dead_lettered", 0) < totals["acked"] / 2:
        cause = "scorer_down"
    elif attack.get("capacity"):
        cause = "load_capped"
    else:
        cause = "load_too_small"
    return Finding(verdict="LOAD_NOT_REACHED", cause=cause, evidence=said)


def _held(plan: Drill, looks: list[Look]) -> list[list[Look]]:
    """The spells in which the alert's condition held."""
    spells: list[list[Look]] = [[]]
    for look in looks:
        if (look.cpu or 0) > THRESHOLD and (look.replicas or 0) >= plan.most_replicas:
            spells[-1].append(look)
        elif spells[-1]:
            spells.append([])
    return [spell for spell in spells if spell]


def _gap(plan: Drill, looks: list[Look]) -> tuple[float, float] | None:
    """The first time without any target after the condition held, and before it was over."""
    began = next((one.at for one in looks if not one.blind and _held(plan, [one])), None)
    dark = [one for one in looks if one.blind and began is not None and one.at > began]
    if not dark:
        return None
    last_good = max(one.at for one in looks if not one.blind and one.at < dark[0].at)
    light = [one.at for one in looks if not one.blind and one.at > dark[0].at]
    return last_good, (light[0] if light else dark[-1].at)


def _after_the_rule_fires(plan: Drill, watch: Watched, received: dict[str, float]) -> Iterator[Finding]:
    firing = watch.firing_at() or 0
    seen = [one for one in watch.alert if one.state != "gone"]
    since = f"the rule fired {firing - plan.started:.1f} s after the start"
    if not seen:
        gone = [one for one in watch.away if one.server == "Alertmanager"]
        cause = "alertmanager_down" if gone else "alert_not_sent"
        said = gone[-1].said if gone else "Alertmanager answers, but was never told of it"
        yield Finding(verdict="ALERTMANAGER_UNREACHED", cause=cause, evidence=[since, said])
        return
    silences = sorted({one for state in seen for one in state.silenced_by})
    if silences and not received:
        yield Finding(verdict="SILENCED", cause="silence", evidence=[f"{since}; silenced by {', '.join(silences)}"])
    inhibitions = sorted({one for state in seen for one in state.inhibited_by})
    if inhibitions and not received:
        said = f"{since}; inhibited by the alert {', '.join(inhibitions)}"
        yield Finding(verdict="INHIBITED", cause="inhibition", evidence=[said])
    if RECEIVER not in seen[-1].receivers:
        said = f"{since}; Alertmanager sent it to {', '.join(seen[-1].receivers)}, not to {RECEIVER}"
        yield Finding(verdict="NOT_DELIVERED", cause="other_receiver", evidence=[said])
    missing = [kind for kind in plan.alert.proved() if kind not in received]
    stale = [one for one in watch.receipts if one.channel in missing and not watch.ours(one, plan)]
    said = f"{since} and did not arrive by {' and '.join(missing)} within {watch.ended - firing:.0f} s"
    others = [one.said for one in watch.away if one.server == "the inbox" and one.until is None]
    if others:
        yield Finding(verdict="NOT_DELIVERED", cause="inbox_down", evidence=[said, *others])
    if stale:
        told = (
            f"what arrived by {stale[0].channel} is {stale[0].fingerprint} that began "
            f"{plan.started - stale[0].starts_at:.0f} s before this drill: of another day"
        )
        yield Finding(verdict="NOT_DELIVERED", cause=f"stale_{stale[0].channel}", evidence=[said, told])
    gone = [one for one in watch.away if one.server == "Alertmanager" and one.until is None]
    if gone:
        yield Finding(verdict="ALERTMANAGER_UNREACHED", cause="alertmanager_down", evidence=[said, gone[-1].said])
    found = next((watch.missing[kind] for kind in missing if kind in watch.missing), None)
    told_of = [sentence for kind in missing if kind in watch.missing for sentence in watch.missing[kind].evidence]
    cause = found.cause if found else f"{missing[0]}_missing"
    yield Finding(verdict="NOT_DELIVERED", cause=cause, evidence=[said, *told_of])


def _late(plan: Drill, watch: Watched, received: dict[str, float]) -> Iterator[Finding]:
    firing = watch.firing_at()
    timing = plan.timing
    for kind, at in sorted(received.items()):
        limit = timing.wait + timing.delivery_allowance
        if firing and at - firing > limit:
            said = (
                f"the {kind} arrived {at - firing:.1f} s after the rule fired; expected are {timing.wait:g} s at most "
                f"({'group_wait' if timing.group == 'new' else 'group_interval'}) + {timing.delivery_allowance:g} s"
            )
            yield Finding(verdict="RECEIVED_LATE", cause=f"{kind}_late", evidence=[said])
    start = condition_at(plan, watch)
    limit = plan.expected_seconds.max + timing.delivery_allowance
    if start and received and max(received.values()) - start > limit:
        said = (
            f"{max(received.values()) - start:.1f} s from the condition to the receipt; "
            f"expected {plan.expected_seconds.formula} + {timing.delivery_allowance:g} s"
        )
        yield Finding(verdict="RECEIVED_LATE", cause="rule_late", evidence=[said])


def _not_over(plan: Drill, watch: Watched) -> Iterator[Finding]:
    waited = f"within {plan.recovery_seconds:g} s of the end of the load"
    resolved = watch.received(plan, "resolved")
    missing = [kind for kind in watch.must_tell_the_end(plan) if kind not in resolved]
    if missing and watch.rule and watch.rule[-1].state == "firing":
        yield Finding(verdict="NOT_RESOLVED", cause="still_firing", evidence=[f"the rule still fires {waited}"])
    if missing:
        said = f"the end of the alert did not arrive by {' and '.join(missing)} {waited}"
        yield Finding(verdict="NOT_RESOLVED", cause=f"{missing[0]}_not_resolved", evidence=[said])
    if watch.back_at is None:
        now = watch.looks[-1].replicas if watch.looks else None
        said = f"{now:g} replicas are ready" if now is not None else "nobody knows how many replicas are ready"
        said = f"{said} {waited}, not {plan.least_replicas}"
        yield Finding(verdict="NOT_RESOLVED", cause="replicas_not_back", evidence=[said])


def condition_at(plan: Drill, watch: Watched) -> float | None:
    """When the condition began to hold, of the spell that led to the alert (or of the last one)."""
    firing = watch.firing_at()
    pending = [one.active_at for one in watch.rule if one.active_at and (not firing or one.active_at <= firing)]
    looks = [one for one in watch.looks if not one.blind and (not firing or one.at <= firing)]
    spells = _held(plan, looks)
    first = spells[-1][0].at if spells else None
    known = [at for at in (first, pending[-1] if pending else None) if at]
    return min(known, default=None)


def _well(plan: Drill, watch: Watched) -> list[str]:
    start = condition_at(plan, watch) or plan.started
    received = watch.received(plan, "firing")
    expected = plan.expected_seconds
    each = ", ".join(f"{kind} after {at - start:.1f} s" for kind, at in sorted(received.items()))
    return [
        f"{each}, from the moment when {plan.most_replicas} replicas ran and the hottest was above {THRESHOLD:.0%} "
        f"(expected {expected.min:g} to {expected.max:g} s); its end arrived, and {plan.least_replicas} replicas run"
    ]


def _links(plan: Drill, attack: dict[str, Any], watch: Watched) -> list[Link]:
    """The chain with its times. The expected time of a link is that since the link before it in time."""
    timing, allowed = plan.timing, plan.timing.delivery_allowance
    received, resolved = watch.received(plan, "firing"), watch.received(plan, "resolved")
    looks = watch.looks
    firing = watch.firing_at()
    ended = attack.get("ended") or watch.attack_ended
    pending = [one.active_at for one in watch.rule if one.active_at and (not firing or one.active_at <= firing)]
    began = attack.get("started") or watch.attack_began
    at_most = next((one.at for one in looks if (one.replicas or 0) >= plan.most_replicas), None)
    condition = condition_at(plan, watch)
    active = next((one.at for one in watch.alert if one.state == "active"), None)
    told = min([at for at in (firing, active) if at], default=None)
    last = pending[-1] if pending else None
    links = [
        _link("load began", began, None, None),
        _link(f"{plan.most_replicas} replicas ready", at_most, began, None),
        _link(f"hottest replica above {THRESHOLD:.0%}", condition, at_most, None),
        _link("rule pending", last, condition, 2 * timing.evaluation),
        _link("rule firing", firing, last, timing.hold_in_evaluations),
        _link("active in Alertmanager", active, firing, allowed),
    ]
    for kind in plan.alert.proved():
        links.append(_link(f"{kind} received", received.get(kind), told, timing.wait + allowed))
    links.append(_link("load ended", ended, max(received.values(), default=None), None))
    # A backlog keeps the service busy for as long as it is: how soon the CPU falls is nobody's promise.
    calm = next((one.at for one in watch.rule if one.state == "inactive" and firing and one.at > firing), None)
    links.append(_link("rule inactive", calm, ended, None))
    for kind in watch.must_tell_the_end(plan):
        links.append(_link(f"{kind}: resolved", resolved.get(kind), calm, timing.resolve + allowed))
    links.append(_link(f"back at {plan.least_replicas} replicas", watch.back_at, ended, plan.recovery_seconds))
    return links


def _link(name: str, at: float | None, after: float | None, expected: float | None) -> Link:
    measured = round(at - after, 2) if at is not None and after is not None else None
    return Link(link=name, at=at, expected=expected, measured=measured)


if __name__ == "__main__":
    run(main)
