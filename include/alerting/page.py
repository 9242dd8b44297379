"""The report of a drill as one page of HTML that needs nothing else."""

from datetime import UTC, datetime
from html import escape
from typing import Any

from include.alerting.drawing import Bar, Curve, Mark, Panel, curves, timeline
from include.alerting.evidence import Watched
from include.alerting.judge import RECEIVED, Judged
from include.alerting.plan import THRESHOLD, Drill
from include.alerting.style import STYLE

TINTS = ("c0", "c1", "c2", "c3", "c4")
SPECTRA = {
    "lateness_ms": "Lateness: due time to send",
    "ack_ms": "Acknowledged: due time to Kafka's answer",
    "end_to_end_ms": "End to end: due time to prediction",
}


def page(plan: Drill | None, attack: dict[str, Any] | None, watched: Watched | None, judged: Judged) -> str:
    """All of it."""
    body = [_head(plan, judged)]
    if plan and watched:
        body.append(_course(plan, attack or {}, watched, judged))
        body.append(_chain(plan, judged))
    if attack:
        body.append(_accounting(attack))
        body.append(_stages(attack))
        body.append(_latencies(attack))
    if plan:
        body.append(_settings(plan))
    title = f"Alert drill {judged.drill}: {judged.verdict}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _head(plan: Drill | None, judged: Judged) -> str:
    good = judged.verdict == RECEIVED
    began = f"{datetime.fromtimestamp(plan.started, UTC):%d %B %Y, %H:%M:%S} UTC" if plan else "it did not begin"
    times = ""
    if plan and plan.time_compression != 1:
        times = (
            f"<p><b>Times are compressed by {plan.time_compression:g}</b>: the rule asks for "
            f"{plan.timing.hold:g} s here, for 300 s in production; windows and intervals likewise.</p>"
        )
    evidence = "".join(f"<li>{escape(said)}</li>" for said in judged.evidence)
    notes = "".join(f"<li>{escape(said)}</li>" for said in judged.notes)
    cause = f'<span class="cause">cause: {escape(judged.cause)}</span>' if judged.cause else ""
    return (
        f"<h1>Drill of the admin's alert</h1><div class='faint'>{escape(judged.drill)} · {began}</div>"
        f'<div class="verdict{" good" if good else ""}"><b>{escape(judged.verdict)}</b>{cause}<ul>{evidence}</ul></div>'
        f"{times}" + (f"<ul class='faint'>{notes}</ul>" if notes else "")
    )


def _course(plan: Drill, attack: dict[str, Any], watched: Watched, judged: Judged) -> str:
    start, seconds = plan.started, watched.ended - plan.started
    lines = {line.name: line.points for line in watched.lines}
    rate = [(one["t"] - start, one["rate"]) for one in attack.get("timeline", [])] or lines.get("rate", [])
    ones = [Curve(points, "one") for name, points in sorted(lines.items()) if name.startswith("cpu of ")]
    most = max(
        (value for points in (lines.get("cpu", []), *(one.points for one in ones)) for _, value in points), default=1
    )
    panels = [
        Panel("Load, messages a second", 120, [Curve(rate, "load", "sent", steps=True)]),
        Panel(
            "Replicas ready",
            84,
            [Curve(lines.get("replicas", []), "replicas", "", steps=True)],
            rules=[
                (plan.least_replicas, f"{plan.least_replicas} at rest"),
                (plan.most_replicas, f"{plan.most_replicas} at most"),
            ],
            top=plan.most_replicas + 2,
        ),
        Panel(
            "CPU of each replica, of its limit",
            130,
            [*[_percent(one) for one in ones], _percent(Curve(lines.get("cpu", []), "hottest", "hottest"))],
            rules=[(THRESHOLD * 100, f"{THRESHOLD:.0%}: the rule")],
            unit=" %",
            top=max(100, -(-most * 100 // 20) * 20),
        ),
    ]
    if any(value for _, value in lines.get("lag", [])):
        panels.append(Panel("Messages that wait in Kafka", 80, [Curve(lines["lag"], "lag", "lag")]))
    if any(value for _, value in lines.get("errors", [])):
        panels.append(Panel("Failed answers of the model API a second", 70, [Curve(lines["errors"], "errors", "5xx")]))
    panels.append(Panel("Rule", 34, bars=_rule_bars(watched, start), rows=["rule's state"]))
    rows = plan.alert.proved()
    panels.append(Panel("Notifications received", 26 * len(rows), bars=_notified(plan, watched, start), rows=rows))
    marks = [
        Mark(link.at - start, str(number), f"{link.link}: {link.at - start:.1f} s")
        for number, link in enumerate(judged.links, 1)
        if link.at is not None
    ]
    quiet = [
        Bar("", one["began"] - start, one["ended"] - start, "quiet", f"{one['name']}: must not page")
        for one in attack.get("stages", [])
        if one["kind"] == "stage" and one["rate"] <= plan.quiet_rate
    ]
    drawn = timeline(panels, sorted(marks, key=lambda mark: mark.at), quiet, seconds)
    key = "".join(
        f'<span><i style="background:var(--{colour})"></i>{said}</span>'
        for colour, said in (
            ("amber", "pending"),
            ("red", "firing, told"),
            ("green", "told that it is over"),
            ("shade", "must not page"),
        )
    )
    return f'<h2>Course</h2><div class="faint key">{key}<span>Numbers: the links of the chain below</span></div>{drawn}'


def _percent(curve: Curve) -> Curve:
    return Curve([(at, value * 100) for at, value in curve.points], curve.style, curve.name, curve.steps)


def _rule_bars(watched: Watched, start: float) -> list[Bar]:
    ends = [state.at for state in watched.rule[1:]] + [watched.ended]
    bars = []
    for state, end in zip(watched.rule, ends, strict=True):
        if state.state in ("pending", "firing"):
            began = watched.starts_at if state.state == "firing" and watched.starts_at else state.active_at
            began = min(began or state.at, state.at)
            bars.append(
                Bar("rule's state", began - start, end - start, state.state, f"{state.state} for {end - began:.1f} s")
            )
    return bars


def _notified(plan: Drill, watched: Watched, start: float) -> list[Bar]:
    bars = []
    for status, style in (("firing", "told"), ("resolved", "ended")):
        for kind, at in watched.received(plan, status).items():
            said = f"{kind}: {status} {at - start:.1f} s after the start"
            bars.append(Bar(kind, at - start, at - start, style, said))
    return bars


def _chain(plan: Drill, judged: Judged) -> str:
    rows = []
    for number, link in enumerate(judged.links, 1):
        at = "<span class='bad'>not seen</span>" if link.at is None else f"{link.at - plan.started:.1f} s"
        late = link.expected is not None and link.measured is not None and link.measured > link.expected
        measured = "" if link.measured is None else f"{link.measured:.1f} s"
        expected = "" if link.expected is None else f"≤ {link.expected:g} s"
        rows.append(
            f"<tr><td>{number}</td><td class='left'>{escape(link.link)}</td><td>{at}</td>"
            f"<td>{expected}</td><td{' class=bad' if late else ''}>{measured}</td></tr>"
        )
    whole = "; ".join(f"{kind} {took:.1f} s" for kind, took in judged.seconds_to_receipt.items()) or "nothing arrived"
    return (
        "<h2>The chain</h2><div class='wide'><table><tr><th>#</th><th class='left'>link</th><th>seen at</th>"
        "<th>expected after the link that causes it</th><th>measured</th></tr>"
        f"{''.join(rows)}</table></div>"
        f"<p>From the condition to the receipt: <b>{escape(whole)}</b>. Expected, from the settings in force: "
        f"{plan.expected_seconds.min:g} to {plan.expected_seconds.max:g} s, deliveries may take "
        f"{plan.timing.delivery_allowance:g} s more.</p>"
    )


def _accounting(attack: dict[str, Any]) -> str:
    totals = attack.get("totals") or {}
    cells = "".join(
        f"<td{' class=bad' if name in ('unaccounted', 'failed', 'unknown') and value else ''}>{value:,}</td>"
        for name, value in totals.items()
    )
    names = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in totals)
    capacity = attack.get("capacity")
    said = "The surge ended before its cap, so no capacity was found."
    if capacity:
        rate = f"{capacity['rate']:g} messages a second" if capacity.get("rate") is not None else "none was carried"
        said = (
            f"Capacity found: <b>{rate}</b> ({escape(str(capacity.get('rule', '')))}; cap {capacity.get('cap', 0):g})."
        )
    return (
        f"<h2>Accounting</h2><div class='wide'><table><tr>{names}</tr><tr>{cells}</tr></table></div>"
        f"<p>{said} The attack ended by <code>{escape(str(attack.get('stopped_by', '')))}</code>.</p>"
    )


def _stages(attack: dict[str, Any]) -> str:
    rows = []
    for one in attack.get("stages", []):
        error = one.get("rate_error")
        off = ' class="bad"' if one.get("off_rate") else ""
        figures = "".join(
            f"<td>{_ms(one.get(name), 'p50')}</td><td>{_ms(one.get(name), 'p99')}</td>" for name in SPECTRA
        )
        rows.append(
            f"<tr><td>{escape(str(one['name']))}</td><td class='left'>{escape(str(one['kind']))}</td>"
            f"<td>{one['ended'] - one['began']:.0f} s</td>"
            f"<td{off}>{'' if error is None else f'{error:+.2%}'}{' off' if off else ''}</td>"
            f"<td>{one.get('sent', 0):,}</td><td>{one.get('acked', 0):,}</td><td>{one.get('failed', 0):,}</td>"
            f"<td>{one.get('predicted', 0):,}</td>{figures}</tr>"
        )
    heads = "".join(f"<th>{said} p50</th><th>p99</th>" for said in ("late", "ack", "end to end"))
    return (
        "<h2>Stages</h2><div class='wide'><table><tr><th>stage</th><th class='left'>kind</th><th>held</th>"
        f"<th>rate error</th><th>sent</th><th>acked</th><th>failed</th><th>scored</th>{heads}</tr>"
        f"{''.join(rows)}</table></div><p class='faint'>Milliseconds from the time when a message was due. "
        "A stage more than 1 % off its rate is marked.</p>"
    )


def _ms(figures: dict[str, float | None] | None, which: str) -> str:
    value = (figures or {}).get(which)
    return "" if value is None else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _latencies(attack: dict[str, Any]) -> str:
    found = attack.get("latency_curves") or []
    if len(found) > len(TINTS):  # the surge may have many steps: the first ones, and the last
        found = [*found[: len(TINTS) - 1], found[-1]]
    if not found:
        return ""
    drawn = []
    for name, said in SPECTRA.items():
        lines = [
            Curve([(at, value) for at, value in one.get(name) or []], tint, str(one["stage"]))
            for one, tint in zip(found, TINTS, strict=False)
        ]
        if any(line.points for line in lines):
            drawn.append(f"<div>{curves(said, lines)}</div>")
    colours = ("blue", "green", "amber", "violet", "red")
    key = "".join(
        f'<span><i style="background:var(--{colour})"></i>{escape(str(one["stage"]))}</span>'
        for one, colour in zip(found, colours, strict=False)
    )
    return f'<h2>Latency</h2><div class="faint key">{key}</div><div class="three">{"".join(drawn)}</div>'


def _settings(plan: Drill) -> str:
    terms = "".join(
        f"<tr><td>{escape(name)}</td><td>{low:g} s</td><td>{high:g} s</td></tr>"
        for name, low, high in plan.expected_seconds.terms
    )
    ways = ", ".join(f"{way.kind} to {escape(way.to)}" for way in plan.alert.channels)
    arrived = ", ".join(f"{kind} after {took:.1f} s" for kind, took in plan.canary.items())
    return (
        "<h2>Settings in force</h2><div class='wide'><table><tr><th>what is waited for</th><th>at least</th>"
        f"<th>at most</th></tr>{terms}</table></div>"
        f"<p>Rule: <code>{escape(plan.alert.query)}</code>. The admin is told by {ways}. "
        f"The canary before the load arrived: {arrived}. "
        f"Load: <code>{escape(plan.attack.stages)}</code>, then times {plan.attack.surge_factor:g} every "
        f"{plan.attack.surge_hold:g} s up to {plan.attack.surge_cap:g} a second.</p>"
    )
