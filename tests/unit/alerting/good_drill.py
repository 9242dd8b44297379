"""A drill as its steps tell it, in which all is well."""

from typing import Any

from include.alerting.evidence import AlertState, Look, Receipt, RuleState, Watched
from include.alerting.plan import Drill, PlannedAlert, PlannedAttack, PlannedChannel, Timing, expect

T0 = 1_800_000_000.0
OURS = "00c0ffee00c0ffee"
ATTACK_BEGAN, QUIET_ENDED, SIX, HOT, FIRED, MAILED, STOPPED, TOLD_END, BACK = (
    T0 + seconds for seconds in (5, 400, 500, 520, 825, 836, 845, 930, 1200)
)
TIMING = Timing(window=60, scrape=15, evaluation=15, hold=300, group_wait=10, group_interval=60, group="new")


def plan(**changed: Any) -> Drill:
    ways = [PlannedChannel(kind=kind, to="x", send_resolved=True) for kind in ("mail", "webhook")]
    timing = changed.get("timing", TIMING)
    known = {
        "drill": "d",
        "started": T0,
        "deadline": T0 + 3600,
        "recovery_seconds": 900,
        "alert": PlannedAlert(name="A", receiver="admin", labels={}, query="q", channels=ways),
        "timing": timing,
        "expected_seconds": expect(timing),
        "attack": PlannedAttack(
            stages="50x1",
            surge_factor=1.5,
            surge_hold=30,
            surge_cap=9000,
            raise_until="x",
            stop_when="y",
            deadline_seconds=1800,
        ),
        "quiet_rate": 50,
        "least_replicas": 4,
        "most_replicas": 6,
        "replicas_before": 4,
        "job": "model-api",
        "time_compression": 1,
        "said": "",
    }
    return Drill(**known | changed)


def look(at: float) -> Look:
    hot = HOT <= at < STOPPED + 30
    return Look(at=at, replicas=6 if SIX <= at < BACK else 4, cpu=0.95 if hot else 0.3, targets=6, rate=1)


def watched() -> Watched:
    """All is well."""
    receipts = [
        Receipt(channel=kind, received_at=at, status=status, fingerprint=OURS, starts_at=FIRED + 0.0004, drill=True)
        for status, at in (("firing", MAILED), ("resolved", TOLD_END))
        for kind in ("mail", "webhook")
    ]
    return Watched(
        began=T0,
        ended=BACK + 1,
        over_at=MAILED,
        hopeless="",
        attack_began=ATTACK_BEGAN,
        attack_ended=STOPPED,
        fingerprint=OURS,
        starts_at=FIRED,
        back_at=BACK,
        looks=[look(T0 + at) for at in range(0, 1205, 5)],
        rule=[
            RuleState(at=T0, state="inactive"),
            RuleState(at=HOT + 6, state="pending", active_at=HOT + 5),
            RuleState(at=FIRED + 1, state="firing", active_at=HOT + 5),
            RuleState(at=STOPPED + 40, state="inactive"),
        ],
        alert=[
            AlertState(at=FIRED + 2, state="active", receivers=["admin"]),
            AlertState(at=TOLD_END, state="gone"),
        ],
        receipts=receipts,
    )


def attack() -> dict[str, Any]:
    return {
        "started": ATTACK_BEGAN,
        "ended": STOPPED,
        "stopped_by": "stop_when",
        "stages": [
            {"name": "50/s", "kind": "stage", "rate": 50, "began": ATTACK_BEGAN, "ended": QUIET_ENDED},
            {"name": "1500/s", "kind": "stage", "rate": 1500, "began": QUIET_ENDED, "ended": STOPPED},
        ],
        "totals": {"sent": 100, "acked": 100, "failed": 0, "unknown": 0, "predicted": 100, "unaccounted": 0},
        "capacity": None,
    }
