"""The verdict names the first broken link: one fact is changed at a time."""

from collections.abc import Callable
from typing import Any

import pytest

from include.alerting.evidence import AlertState, Away, ChannelState, RuleState, Watched
from include.alerting.judge import Judged, condition_at, facts, judge
from include.alerting.plan import (
    Stage,
    expect,
    parse_stages,
    quiet_hold,
    with_quiet_stage,
)
from include.alerting.prometheus import metrics_of, seconds, windows
from include.alerting.watch import thin
from include.command import BadInput
from tests.unit.alerting.good_drill import FIRED, HOT, T0, TIMING, attack, look, plan, watched


def not_fired(seen: Watched) -> None:
    seen.starts_at, seen.fingerprint, seen.alert, seen.receipts = None, "", [], []
    seen.rule = [RuleState(at=T0, state="inactive")]
    seen.hopeless = "the load ended and the alert does not fire"


def lose(seen: Watched, channel: str, status: str = "firing") -> None:
    seen.receipts = [one for one in seen.receipts if (one.channel, one.status) != (channel, status)]


def looks(seen: Watched, **changed: Any) -> None:
    seen.looks = [one.model_copy(update=changed) for one in seen.looks]


Change = Callable[[Watched, dict[str, Any]], None]


def silenced(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = []
    seen.alert = [AlertState(at=FIRED, state="suppressed", silenced_by=["s1"], receivers=["admin"])]


def inhibited(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = []
    seen.alert = [AlertState(at=FIRED, state="suppressed", inhibited_by=["i1"], receivers=["admin"])]


def to_the_team(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = []
    seen.alert = [AlertState(at=FIRED, state="active", receivers=["team"])]


def never_told(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts, seen.alert, seen.fingerprint, seen.starts_at = [], [], "", None


def alertmanager_down(seen: Watched, told: dict[str, Any]) -> None:
    never_told(seen, told)
    seen.away = [Away(server="Alertmanager", since=T0 + 300, said="refused")]


def no_mail(seen: Watched, _: dict[str, Any]) -> None:
    lose(seen, "mail")
    seen.missing = {"mail": ChannelState(cause="mail_refused_451", evidence=["451"])}


def stale_mail(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = [
        one.model_copy(update={"starts_at": T0 - 86_400.0}) if one.channel == "mail" else one for one in seen.receipts
    ]


def of_another_label_set(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = [
        one.model_copy(update={"fingerprint": "1" * 16}) if one.channel == "webhook" else one for one in seen.receipts
    ]


def late_mail(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = [
        one.model_copy(update={"received_at": FIRED + 26}) if one.channel == "mail" else one for one in seen.receipts
    ]


def unlike(**changed: Any) -> Change:
    """The rule does not fire, and the looks differ."""

    def change(seen: Watched, _: dict[str, Any]) -> None:
        not_fired(seen)
        looks(seen, **changed)

    return change


def cool(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    seen.looks = [one.model_copy(update={"cpu": 0.5}) if one.at > HOT + 150 else one for one in seen.looks]


def gap(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    dark = {"cpu": None, "replicas": 0.0, "targets": 0.0}
    seen.looks = [one.model_copy(update=dark) if 150 < one.at - HOT < 220 else one for one in seen.looks]


def fewer(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    seen.looks = [one.model_copy(update={"replicas": 5.0}) if one.at > HOT + 150 else one for one in seen.looks]


def short_load(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    seen.attack_ended = HOT + 100
    seen.looks = [one.model_copy(update={"cpu": 0.3}) if one.at > HOT + 100 else one for one in seen.looks]


def small(**told: Any) -> Change:
    def change(seen: Watched, said: dict[str, Any]) -> None:
        not_fired(seen)
        looks(seen, replicas=4.0, cpu=0.5)
        said.update({key: value for key, value in told.items() if key != "totals"})
        said["totals"].update(told.get("totals", {}))

    return change


def rule(state: str, **more: Any) -> Change:
    def change(seen: Watched, _: dict[str, Any]) -> None:
        not_fired(seen)
        seen.rule.append(RuleState(at=T0 + 100, state=state, **more))

    return change


def prometheus_down(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    seen.looks = [one for one in seen.looks if one.at < HOT + 50]
    seen.away = [Away(server="Prometheus", since=HOT + 50, said="refused")]


def killed(seen: Watched, said: dict[str, Any]) -> None:
    not_fired(seen)
    said["stopped_by"] = "signal"


def silent(seen: Watched, _: dict[str, Any]) -> None:
    not_fired(seen)
    seen.attack_silent = True


def still_firing(seen: Watched, _: dict[str, Any]) -> None:
    lose(seen, "mail", "resolved")
    lose(seen, "webhook", "resolved")
    seen.rule = seen.rule[:-1]


def mail_not_resolved(seen: Watched, _: dict[str, Any]) -> None:
    lose(seen, "mail", "resolved")


def not_back(seen: Watched, _: dict[str, Any]) -> None:
    seen.back_at = None


def lost(_: Watched, said: dict[str, Any]) -> None:
    said["totals"]["unaccounted"] = 3


def too_early(seen: Watched, said: dict[str, Any]) -> None:
    said["stages"][0]["ended"] = FIRED + 100


def inbox_down(seen: Watched, _: dict[str, Any]) -> None:
    seen.receipts = []
    seen.away = [Away(server="the inbox", since=T0 + 10, said="refused")]


CASES: list[tuple[str, str, Change]] = [
    ("ALERT_RECEIVED", "", lambda seen, said: None),
    ("FALSE_ALARM", "paged_in_quiet_stage", too_early),
    ("ABORTED", "attack_killed", killed),
    ("ABORTED", "attack_killed", silent),
    ("LOAD_NOT_REACHED", "load_too_small", small()),
    ("LOAD_NOT_REACHED", "load_capped", small(capacity={"rate": 900, "cap": 900})),
    ("LOAD_NOT_REACHED", "broker_down", small(stopped_by="error_budget", totals={"failed": 50})),
    ("LOAD_NOT_REACHED", "scorer_down", small(totals={"predicted": 10})),
    ("METRIC_MISSING", "no_samples", unlike(cpu=None)),
    ("METRIC_MISSING", "no_samples", unlike(replicas=None)),
    ("METRIC_MISSING", "wrong_metric", rule("reads nothing", error="no sample")),
    ("NOT_SCALED", "max_replicas", unlike(replicas=5.0)),
    ("NOT_SCALED", "no_scaling", unlike(replicas=4.0)),
    ("NOT_SCALED", "no_scaling", unlike(replicas=4.0, mean_cpu=0.85)),
    ("LOAD_NOT_REACHED", "load_too_small", unlike(replicas=4.0, mean_cpu=0.4)),
    ("NOT_SCALED", "replicas_dropped", fewer),
    ("CPU_NOT_SUSTAINED", "cpu_never_high", unlike(cpu=0.7)),
    ("CPU_NOT_SUSTAINED", "cpu_dropped", cool),
    ("CPU_NOT_SUSTAINED", "load_ended_early", short_load),
    ("RULE_MISSING", "rule_missing", rule("missing")),
    ("RULE_MISSING", "rule_unhealthy", rule("unhealthy", error="parse error")),
    ("CPU_NOT_SUSTAINED", "scrape_gap", gap),
    ("RULE_NOT_FIRING", "not_evaluated", unlike()),
    ("RULE_NOT_FIRING", "rule_changed", rule("changed", error="now x > 1")),
    ("PROMETHEUS_UNREACHED", "prometheus_down", prometheus_down),
    ("ALERTMANAGER_UNREACHED", "alertmanager_down", alertmanager_down),
    ("ALERTMANAGER_UNREACHED", "alert_not_sent", never_told),
    ("SILENCED", "silence", silenced),
    ("INHIBITED", "inhibition", inhibited),
    ("NOT_DELIVERED", "other_receiver", to_the_team),
    ("NOT_DELIVERED", "mail_refused_451", no_mail),
    ("NOT_DELIVERED", "stale_mail", stale_mail),
    ("NOT_DELIVERED", "stale_webhook", of_another_label_set),
    ("NOT_DELIVERED", "inbox_down", inbox_down),
    ("RECEIVED_LATE", "mail_late", late_mail),
    ("NOT_RESOLVED", "still_firing", still_firing),
    ("NOT_RESOLVED", "mail_not_resolved", mail_not_resolved),
    ("NOT_RESOLVED", "replicas_not_back", not_back),
    ("MESSAGES_LOST", "unaccounted", lost),
]


@pytest.mark.parametrize(("verdict", "cause", "change"), CASES, ids=[f"{case[0]}-{case[1]}" for case in CASES])
def test_verdict(verdict: str, cause: str, change: Change) -> None:
    seen, said = watched(), attack()
    change(seen, said)
    judged = judge(plan(), said, seen)
    assert (judged.verdict, judged.cause) == (verdict, cause), judged.evidence
    assert all(judged.evidence)


def test_the_first_broken_link_counts() -> None:
    """A mail that was refused matters more than messages that were lost."""
    seen, said = watched(), attack()
    no_mail(seen, said)
    lost(seen, said)
    not_back(seen, said)
    assert judge(plan(), said, seen).verdict == "NOT_DELIVERED"


def test_without_watch_plan_or_attack() -> None:
    refused = {"verdict": "SILENCED", "cause": "silence", "evidence": ["a silence"], "error": "x"}
    assert judge(None, None, None, refused).verdict == "SILENCED"
    assert judge(None, None, None, {"error": "out of memory"}).cause == "no_plan"
    assert judge(plan(), attack(), None).cause == "watch_died"
    assert judge(plan(), None, watched()).verdict == "ABORTED"


def test_links_are_in_order_and_measured() -> None:
    links = judge(plan(), attack(), watched()).links
    assert [link.link for link in links][:5] == [
        "load began", "6 replicas ready", "hottest replica above 80%", "rule pending", "rule firing",
    ]  # fmt: skip
    assert all(link.at is not None for link in links)
    firing = next(link for link in links if link.link == "rule firing")
    assert (firing.expected, firing.measured) == (300, 300)
    mail = next(link for link in links if link.link == "mail received")
    assert (mail.expected, mail.measured) == (25, 11)


def test_the_whole_delay_begins_with_the_condition() -> None:
    assert condition_at(plan(), watched()) == HOT
    judged: Judged = judge(plan(), attack(), watched())
    assert judged.seconds_to_receipt == {"mail": 316, "webhook": 316}


def test_an_open_group_may_take_its_interval() -> None:
    seen = watched()
    seen.receipts = [one.model_copy(update={"received_at": one.received_at + 45}) for one in seen.receipts]
    assert judge(plan(), attack(), seen).verdict == "RECEIVED_LATE"
    open_group = plan(timing=TIMING.model_copy(update={"group": "open"}))
    judged = judge(open_group, attack(), seen)
    assert judged.verdict == "ALERT_RECEIVED"
    assert any("group_open" in note for note in judged.notes)


def test_a_mail_of_several_alerts_need_not_tell_the_end() -> None:
    seen = watched()
    lose(seen, "mail", "resolved")
    other = next(one for one in seen.receipts if one.channel == "mail").model_copy(update={"fingerprint": "2" * 16})
    seen.receipts.append(other)
    assert judge(plan(), attack(), seen).verdict == "ALERT_RECEIVED"


def test_expected_delay() -> None:
    """FACTS of a stack with 15 s, a window of a minute, `for` 5 minutes and group_wait 10 s."""
    found = expect(TIMING)
    assert (found.min, found.max) == (310, 60 + 15 + 15 + 15 + 300 + 10)
    odd = expect(TIMING.model_copy(update={"hold": 20, "evaluation": 15}))
    assert (odd.min, odd.max) == (30, 60 + 15 + 15 + 15 + 30 + 10)


def test_stages() -> None:
    assert [str(one) for one in parse_stages("50x60, 50-200x30")] == ["50x60", "50-200x30"]
    hold = quiet_hold(TIMING)
    assert hold > 300 + 60 + 15 + 30
    stretched = with_quiet_stage(parse_stages("20x10,50x10,1500x60"), 50, TIMING)
    assert [one.hold for one in stretched] == [10, hold, 60]
    first = with_quiet_stage(parse_stages("20-200x10"), 50, TIMING)
    assert first[0] == Stage(rate=50, hold=hold)
    for bad in ("50", "0x5", "50x0", "x", "", "50x60,"):
        with pytest.raises(BadInput, match="not RATExSECONDS"):
            parse_stages(bad)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a:b > 0.8 and on (namespace) c:d >= 6", ["a:b", "c:d"]),
        ('sum by (x) (rate(requests_total{path="/a", status=~"5.."}[1m])) / (sum(up) > 0)', ["requests_total", "up"]),
        ("time() - max without (pod) (seen_seconds) > 26 * 3600 or absent(seen_seconds)", ["seen_seconds"]),
        ("vector(1)", []),
    ],
)
def test_metrics_of(expression: str, names: list[str]) -> None:
    assert metrics_of(expression) == names


def test_durations() -> None:
    assert [seconds(text) for text in ("1h30m", "500ms", "15s", "")] == [5400, 0.5, 15, 0]
    assert windows("deriv(a[1m]) / max_over_time(b[45s]) + rate(c[5m:1m])") == [60, 45, 300]


def test_thinning_keeps_what_a_verdict_depends_on() -> None:
    many = [look(T0 + at / 2) for at in range(2410)]
    many[999] = many[999].model_copy(update={"cpu": None})
    few = thin(many, 300)
    assert len(few) < 320
    kept = [one.at for one in few]
    assert all(many[number].at in kept for number in (0, 998, 999, 1000, 2409))
    assert [one.at for one in few if one.blind] == [many[999].at]


def test_facts_are_only_what_came_to_be() -> None:
    assert facts({"error": "x"}, {}, {"error": "y"}) == (None, None, None)
    given, _, seen = facts(plan().model_dump() | {"extra": 1}, {}, watched().model_dump())
    assert given == plan()
    assert seen == watched()
