"""Step: can a drill prove anything now? Every link is looked at before the load; the answer is the plan.

`python -m include.alerting.preflight --drill manual-2026-11-22 --stages 50x60,200x60,500x120,1500x60`

Refuses (exit code 3) with verdict, cause and evidence of the first link that is broken already. When all is well it
hoists the drill flag: from now on the admin's alert carries `drill="true"`, until the plan's deadline at the latest.
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.alerting.alertmanager import Alertmanager, channels
from include.alerting.canary import fly
from include.alerting.plan import (
    ALERT,
    RECEIVER,
    REPLICAS,
    Drill,
    PlannedAlert,
    PlannedAttack,
    PlannedChannel,
    Timing,
    expect,
    parse_stages,
    with_quiet_stage,
)
from include.alerting.prometheus import Prometheus, Rule, metrics_of, seconds, windows
from include.alerting.pushgateway import JOB, UNTIL, Pushgateway
from include.alerting.receipts import messages
from include.alerting.routing import Reached, inhibitors, routes
from include.alerting.trouble import Broken
from include.alerting.web import Away
from include.command import BadInput, Refused, StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

REAL_HOLD = 300.0  # the rule's `for` in deploy/rules; a smaller one in force means compressed times
FLAG_MARGIN = 60.0
LOOK_SECONDS = 2.0
PASSING = ("already_scaled", "targets_down", "backlog")  # also seen for a while after an earlier load, or a rollout
MOST_BACKLOG = 1000  # messages; more of them are a load of their own
LAG = "kafka_consumer_lag"
MOST_HPA = "kube_horizontalpodautoscaler_spec_max_replicas"


class Args(StepArgs):
    """What the drill is to do."""

    drill: str = Field(min_length=1, description="id that tells this drill from others: that of the DAG run")
    stages: str = Field("50x60,200x60,500x120,1500x60", description="rate per second x seconds, separated by commas")
    surge_factor: float = Field(1.5, gt=1, description="what the rate is multiplied with after the stages")
    surge_hold: float = Field(30, gt=0, description="seconds between two multiplications")
    surge_cap: float = Field(12_000, gt=0, description="the rate is never higher than this")
    quiet_rate: float = Field(500, gt=0, description="stages up to this rate must not page")
    max_minutes: float = Field(30, gt=0, description="the load ends after this, whatever happens")
    recovery_seconds: float = Field(900, ge=0, description="time after the load to be told and to scale down")
    delivery_allowance: float = Field(15, gt=0, description="seconds that a delivery may take beyond the settings")
    for_seconds: float | None = Field(None, gt=0, description="the rule's `for` must be this (default: any)")
    job: str = Field("model-api", description="job of the model API's targets in Prometheus")
    least_replicas: int = Field(4, ge=1)
    most_replicas: int = Field(6, ge=1)
    calm_seconds: float = Field(60, ge=0, description="how long to wait for the replicas to settle")


def main(args: Args) -> Drill:
    """Answer: the plan. Raises Refused when a link is broken already."""
    began = time.time()
    stages = parse_stages(args.stages)
    try:
        while True:
            try:
                return _prepare(args, stages, began)
            except Broken as broken:
                if broken.cause not in PASSING or time.time() - began > args.calm_seconds:
                    raise
            time.sleep(LOOK_SECONDS)
    except Broken as broken:
        raise Refused(
            str(broken), {"verdict": broken.verdict, "cause": broken.cause, "evidence": broken.evidence}
        ) from broken


def _prepare(args: Args, stages: list[Any], began: float) -> Drill:
    prometheus = Prometheus(settings().prometheus_url)
    alertmanager = Alertmanager(settings().alertmanager_url)
    pushgateway = Pushgateway(settings().pushgateway_url)
    try:
        rule, timing_of_rule, labels = _look_at_prometheus(prometheus, args)
        replicas = _look_at_replicas(prometheus, args)
        _refuse_backlog(prometheus)
    except Away as error:
        raise Broken("PROMETHEUS_UNREACHED", "prometheus_down", [str(error)]) from error
    try:
        config = alertmanager.config()
        reached = _route_to_the_admin(config, labels)
        ways = [PlannedChannel(**vars(way)) for way in channels(config, RECEIVER)]
        alert = PlannedAlert(name=ALERT, receiver=RECEIVER, labels=labels, query=rule.query, channels=ways)
        if not alert.proved():
            said = f"receiver {RECEIVER} has neither a mail nor a webhook: nothing would arrive in the inbox"
            raise Broken("NOT_DELIVERED", "no_channel", [said])
        _refuse_suppressed(alertmanager, config, labels)
        group, notes = _group(alertmanager, reached, labels)
        _refuse_active(alertmanager, labels)
    except Away as error:
        raise Broken("ALERTMANAGER_UNREACHED", "alertmanager_down", [str(error)]) from error
    timing = Timing(
        **timing_of_rule,
        group_wait=reached.group_wait,
        group_interval=reached.group_interval,
        group=group,
        delivery_allowance=args.delivery_allowance,
    )
    stages = with_quiet_stage(stages, args.quiet_rate, timing)
    expected = expect(timing)
    load_seconds = args.max_minutes * 60
    needed = sum(stage.hold for stage in stages) + expected.max
    if needed > load_seconds:
        raise BadInput(
            f"--max-minutes {args.max_minutes:g}: the stages ({','.join(map(str, stages))}, the last quiet one held "
            f"long enough to page) and the alert need {needed / 60:.1f} minutes; raise it or shorten the stages"
        )
    for kind in sorted({way.kind for way in ways} - set(alert.proved())):
        notes.append(f"the admin is also told by {kind}, which the inbox cannot see")
    for interval in (*reached.mute_time_intervals, *reached.active_time_intervals):
        notes.append(f"the admin's route has the time interval {interval}: it may hold notifications back")
    canary = _canary(alertmanager, alert, timing, args.drill)
    started = time.time()
    deadline = started + load_seconds + args.recovery_seconds
    _hoist_flag(prometheus, pushgateway, args.drill, deadline + FLAG_MARGIN, timing)
    said = (
        f"{args.drill}: {', '.join(map(str, stages))} messages a second x seconds, then a surge until {ALERT} is "
        f"pending; expected by {' and '.join(alert.proved())} within {expected.max:g} s of the limit "
        f"(+ {timing.delivery_allowance:g} s). Preflight took {started - began:.1f} s."
    )
    log.info("%s", said)
    return Drill(
        drill=args.drill,
        started=started,
        deadline=deadline,
        recovery_seconds=args.recovery_seconds,
        alert=alert,
        timing=timing,
        expected_seconds=expected,
        attack=PlannedAttack(
            stages=",".join(map(str, stages)),
            surge_factor=args.surge_factor,
            surge_hold=args.surge_hold,
            surge_cap=args.surge_cap,
            raise_until=f'ALERTS{{alertname="{ALERT}"}}',
            stop_when=f'alert_drill_over{{drill="{args.drill}"}} == 1',
            deadline_seconds=load_seconds,
        ),
        quiet_rate=args.quiet_rate,
        least_replicas=args.least_replicas,
        most_replicas=args.most_replicas,
        replicas_before=replicas,
        job=args.job,
        time_compression=round(REAL_HOLD / timing.hold, 2) if timing.hold < REAL_HOLD else 1,
        notes=notes,
        canary=canary,
        said=said,
    )


def _look_at_prometheus(prometheus: Prometheus, args: Args) -> tuple[Rule, dict[str, float], dict[str, str]]:
    """The rule, its part of the timing, and the labels that the alert will have. Raises Broken."""
    prometheus.ready()
    rules = prometheus.rules()
    rule = next((one for one in rules if one.name == ALERT and not one.recording), None)
    if rule is None:
        loaded = sorted({one.name for one in rules if not one.recording})
        raise Broken("RULE_MISSING", "rule_missing", [f"no rule {ALERT} is loaded; loaded are: {', '.join(loaded)}"])
    if rule.health == "err":
        raise Broken("RULE_MISSING", "rule_unhealthy", [f"{ALERT} cannot be evaluated: {rule.error}"])
    if args.for_seconds is not None and rule.hold != args.for_seconds:
        said = f"{ALERT} has `for` {rule.hold:g} s, expected are {args.for_seconds:g} s"
        raise Broken("RULE_NOT_FIRING", "other_for", [said])
    targets = prometheus.targets(args.job)
    up = [target for target in targets if target.up]
    if len(up) < args.least_replicas:
        down = "; ".join(f"{target.url}: {target.error}" for target in targets if not target.up)
        said = f"{len(up)} targets of job {args.job} are up, needed are {args.least_replicas}. {down}".strip()
        raise Broken("METRIC_MISSING", "targets_down", [said])
    recording = {one.name: one for one in rules if one.recording}
    labels: dict[str, str] = {}
    read = metrics_of(rule.query)
    for metric in read:
        samples = prometheus.query(metric)
        if not samples and ":" in metric and metric not in recording:
            raise Broken("METRIC_MISSING", "recording_rule_missing", [f"{ALERT} reads {metric}, which no rule records"])
        if not samples:
            raise Broken("METRIC_MISSING", "no_samples", [f"{ALERT} reads {metric}, of which there is no sample"])
        labels = labels or {name: value for name, value in samples[0].labels.items() if name != "__name__"}
    if rule.state != "inactive":
        said = f"{ALERT} is {rule.state} before any load: a notification would prove nothing"
        raise Broken("ALREADY_FIRING", f"already_{rule.state}", [said])
    if not prometheus.alertmanagers():
        said = "Prometheus has no active Alertmanager (GET /api/v1/alertmanagers)"
        raise Broken("ALERTMANAGER_UNREACHED", "no_alertmanager", [said])
    external = (prometheus.config().get("global") or {}).get("external_labels") or {}
    fixed = {name: value for name, value in rule.labels.items() if "{{" not in value}
    timing = {
        "window": max(
            [window for name in read if name in recording for window in windows(recording[name].query)] or [0]
        ),
        "scrape": max(target.interval for target in up) or seconds("15s"),
        "evaluation": max([rule.interval, *(recording[name].interval for name in read if name in recording)]),
        "hold": rule.hold,
    }
    return rule, timing, {**external, **labels, **fixed, "alertname": ALERT, "drill": "true"}


def _look_at_replicas(prometheus: Prometheus, args: Args) -> float:
    """How many are ready. Raises Broken when the drill could not show that they become more."""
    bounds = prometheus.query(f'max({MOST_HPA}{{horizontalpodautoscaler="model-api"}})')
    if bounds and bounds[0].value < args.most_replicas:
        said = f"the autoscaler stops at {bounds[0].value:g} replicas, the alert needs {args.most_replicas}"
        raise Broken("NOT_SCALED", "max_replicas", [said])
    ready = max((sample.value for sample in prometheus.query(REPLICAS)), default=0)
    if ready > args.least_replicas:
        said = f"{ready:g} replicas are ready before any load, not {args.least_replicas}: wait until it has scaled down"
        raise Broken("NOT_SCALED", "already_scaled", [said])
    return ready


def _refuse_backlog(prometheus: Prometheus) -> None:
    """Raises Broken when the scorer is still busy with what came earlier: no stage would be a quiet one."""
    backlog = max((sample.value for sample in prometheus.query(f"sum({LAG})")), default=0)
    if backlog > MOST_BACKLOG:
        said = (
            f"{backlog:g} messages still wait for the scorer ({LAG}); at most {MOST_BACKLOG} may: wait until it has "
            "caught up, or look at why it does not"
        )
        raise Broken("LOAD_NOT_REACHED", "backlog", [said])


def _route_to_the_admin(config: dict[str, Any], labels: dict[str, str]) -> Reached:
    reached = routes(config, labels)
    for route in reached:
        if route.receiver == RECEIVER:
            return route
    told = ", ".join(route.receiver for route in reached)
    raise Broken("NOT_DELIVERED", "other_receiver", [f"the routes lead {ALERT} to {told}, not to {RECEIVER}"])


def _refuse_suppressed(alertmanager: Alertmanager, config: dict[str, Any], labels: dict[str, str]) -> None:
    for silence in alertmanager.silences():
        if silence.matches(labels):
            said = (
                f"silence {silence.id} ({silence.state}, by {silence.by}: {silence.comment}) matches {ALERT}: "
                f"{', '.join(map(str, silence.matchers))}"
            )
            raise Broken("SILENCED", "silence", [said])
    active = [alert["labels"] for alert in alertmanager.alerts()]
    for name, said in inhibitors(config, labels, active):
        raise Broken("INHIBITED", "inhibition", [f"the active alert {name} inhibits {ALERT}: {said}"])


def _refuse_active(alertmanager: Alertmanager, labels: dict[str, str]) -> None:
    for alert in alertmanager.alerts(ALERT):
        if alert["labels"] == labels:
            said = f"Alertmanager has the drill's {ALERT} since {alert['startsAt']}: an earlier drill is not over"
            raise Broken("ALREADY_FIRING", "already_active", [said])


def _group(alertmanager: Alertmanager, reached: Reached, labels: dict[str, str]) -> tuple[str, list[str]]:
    """Whether the alert's group is new, open or perhaps open, and what is worth telling of it."""
    by = labels if reached.group_by == ("...",) else {name: labels[name] for name in reached.group_by if name in labels}
    seen = alertmanager.groups()
    for group in seen:
        if group["receiver"]["name"] == RECEIVER and group["labels"] == by and group["alerts"]:
            others = len(group["alerts"])
            return "open", [
                f"the admin's group is open already ({others} alert(s)): the notification waits for group_interval"
            ]
    # One that holds nothing any more stays open for up to half a minute, and is not listed.
    hidden = alertmanager.counts().get("groups", 0) - len(seen)
    if hidden > 0:
        return "perhaps open", [f"{hidden:.0f} group(s) of Alertmanager are open without an alert; ours may be one"]
    return "new", []


def _canary(alertmanager: Alertmanager, alert: PlannedAlert, timing: Timing, drill: str) -> dict[str, float]:
    try:
        messages(settings().inbox_url, time.time())
    except Away as error:
        raise Broken("NOT_DELIVERED", "inbox_down", [str(error)]) from error
    try:
        return fly(alertmanager, settings().inbox_url, alert, timing, drill)
    except Away as error:
        raise Broken("ALERTMANAGER_UNREACHED", "alertmanager_down", [str(error)]) from error


def _hoist_flag(prometheus: Prometheus, pushgateway: Pushgateway, drill: str, until: float, timing: Timing) -> None:
    """Returns when Prometheus has seen the flag: an alert without it would wake somebody."""
    key = {"drill": drill}
    try:
        pushgateway.forget(JOB, key)  # of an earlier try
        pushgateway.push(JOB, key, {UNTIL: until})
    except Away as error:
        raise Broken("ABORTED", "pushgateway_down", [str(error)]) from error
    patience = time.monotonic() + 3 * timing.scrape + 5
    while not prometheus.query(f'{UNTIL}{{drill="{drill}"}} > time()'):
        if time.monotonic() > patience:
            pushgateway.forget(JOB, key)
            said = f"Prometheus does not see the drill flag {UNTIL} that was pushed: does it scrape the Pushgateway?"
            raise Broken("METRIC_MISSING", "flag_not_scraped", [said])
        time.sleep(min(1.0, timing.scrape / 2))


if __name__ == "__main__":
    run(main)
