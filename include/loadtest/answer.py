"""What an attack answers, from its ledger: each stage, the sum of them, and what the service was seen to carry."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from include.loadtest.latency import Latency
from include.loadtest.ledger import Ledger, Times
from include.loadtest.schedule import NANOSECONDS, Leg

OFF_RATE = 0.01
CARRIED_P99_MS = 5_000.0
CAPACITY_RULE = "highest rate that was sent within 1 % and whose predictions came within 5 s (p99, from the due time)"
COUNTS = ("due", "sent", "acked", "failed", "unknown", "predicted", "dead_lettered", "duplicates")


def stages(ledger: Ledger, legs: Sequence[Leg], sent: int, stopped_at: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """The figures of each leg that began, and the latency curves of each."""
    figures, curves = [], []
    for leg in legs:
        if leg.began < stopped_at:
            one, curve = _stage(ledger, leg, sent, stopped_at)
            figures.append(one)
            curves.append(curve)
    return figures, curves


def totals(ledger: Ledger, all_stages: Sequence[dict[str, Any]], sent: int) -> dict[str, int]:
    """The sums, and how many acked messages nobody answered."""
    return {count: sum(stage[count] for stage in all_stages) for count in COUNTS} | {
        "unaccounted": ledger.unaccounted(sent)
    }


def capacity(all_stages: Sequence[dict[str, Any]], cap: float) -> dict[str, Any] | None:
    """What the service was seen to carry, when the surge came to its cap; None when it did not."""
    if not any(stage["kind"] == "surge" and stage["rate"] >= cap for stage in all_stages):
        return None
    carried = [
        stage["rate"]
        for stage in all_stages
        if not stage["off_rate"] and (stage["end_to_end_ms"]["p99"] or CARRIED_P99_MS) < CARRIED_P99_MS
    ]
    return {"rate": max(carried, default=None), "cap": cap, "rule": CAPACITY_RULE}


def timeline(ledger: Ledger, sent: int) -> list[dict[str, float]]:
    """How many messages were sent in each second of the attack."""
    if not sent:
        return []
    seconds = ledger.sent[:sent] // NANOSECONDS
    first = int(seconds.min())
    return [{"t": first + n, "rate": int(count)} for n, count in enumerate(np.bincount(seconds - first))]


def _stage(ledger: Ledger, leg: Leg, sent: int, stopped_at: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ended = min(leg.ends, stopped_at)
    own = slice(leg.first, max(leg.first, min(leg.first + leg.count, sent)))
    due, called, end, answered = ledger.due[own], ledger.sent[own], ledger.ended[own], ledger.answered[own]
    seconds = (ended - leg.began) / NANOSECONDS
    planned = _due_by(leg, ended)
    # What came later than the stage lasted was not sent at the stage's rate, even though it was sent.
    in_time = int(np.count_nonzero(called < ended))
    error = (in_time - planned) / planned if planned else 0.0
    lateness, acks = Latency(called - due), Latency(_acked(end, due))
    end_to_end = Latency(answered[answered > 0] * 1_000_000 - due[answered > 0])
    acked, failed = int(np.count_nonzero(end > 0)), int(np.count_nonzero(end < 0))
    figures = {
        "name": leg.name, "kind": leg.kind, "rate": leg.mean_rate,
        "began": leg.began / NANOSECONDS, "ended": ended / NANOSECONDS,
        "due": max(planned, len(due)), "sent": len(due),
        "acked": acked, "failed": failed, "unknown": len(due) - acked - failed,
        "achieved_rate": in_time / seconds, "rate_error": error, "off_rate": abs(error) > OFF_RATE,
        "lateness_ms": lateness.figures(), "ack_ms": acks.figures(), "end_to_end_ms": end_to_end.figures(),
        "predicted": int(np.count_nonzero(answered > 0)), "dead_lettered": int(np.count_nonzero(answered < 0)),
        "duplicates": int(ledger.again[own].sum()),
    }  # fmt: skip
    curves = {"lateness_ms": lateness.curve(), "ack_ms": acks.curve(), "end_to_end_ms": end_to_end.curve()}
    return figures, {"stage": leg.name, "kind": leg.kind} | curves


def _acked(end: Times, due: Times) -> Times:
    """From the due time to the acknowledgement, of those that have one."""
    return end[end > 0] - due[end > 0]


def _due_by(leg: Leg, moment: int) -> int:
    """How many of its messages were due before the moment."""
    low, high = 0, leg.count
    while low < high:
        middle = (low + high) // 2
        if leg.due(middle) < moment:
            low = middle + 1
        else:
            high = middle
    return low
