"""Step: load `transactions-input` by a schedule, and account for every message of it.

`python -m include.loadtest.attack --run drill-7 --stages '50x10,200x20' --deadline-seconds 120`

Exit code 0 also when a stage was off its rate (the answer says so), 3 when a message that Kafka acknowledged has
neither prediction nor dead letter in the end, or when too many failed; 1 when it was told to end (the answer is
written).
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from include.command import FAILED, BadInput, Refused, StepArgs, run
from include.fraud.examples import ExerciseTransactions
from include.fraud.online import EXERCISE_IDS
from include.loadtest import answer, brakes
from include.loadtest.brakes import Brakes
from include.loadtest.ledger import Ledger, Said
from include.loadtest.observer import Watched, observer
from include.loadtest.schedule import NANOSECONDS, Schedule, Surge, parse_stages
from include.loadtest.sender import DELIVERY_SECONDS, Sender, producer, undisturbed
from include.settings import settings

log = logging.getLogger("attack")

IDS_A_MILLISECOND = 1000  # two runs over one broker share no id unless one sends faster than that
LEAD_SECONDS = 0.5  # from the last preparation to the first message
FLUSH_SECONDS = 3.0  # after a signal
SETTLE_LOOK = 0.2


class Args(StepArgs):
    """The load, and what stops it."""

    run: str = Field(pattern=r"^[A-Za-z0-9._:+-]{1,200}$", description="name of this run; it marks every message")
    stages: str = Field(description="messages a second x seconds: 50x60,200x60; 50-200x30 is a ramp")
    surge_factor: float = Field(1.5, gt=1, le=4, description="by which the rate is raised after the stages")
    surge_hold: float = Field(30, ge=1, le=3600, description="seconds that each raised rate is held at least")
    surge_cap: float = Field(12_000, ge=1, le=100_000, description="messages a second that are never passed")
    raise_until: str | None = Field(None, description="PromQL; the surge raises the rate until it gives a series")
    stop_when: str | None = Field(None, description="PromQL; the attack ends when it gives a series")
    deadline_seconds: float = Field(3600, gt=0, le=86_400, description="after that no message is sent")
    max_messages: int = Field(10_000_000, ge=1, le=50_000_000, description="no more messages than that")
    max_failed: float = Field(0.01, gt=0, le=1, description="share of messages that may fail within ten seconds")
    stop_file: Path | None = Field(None, description="the attack ends when this file exists")
    settle_seconds: float = Field(600, ge=0, le=3600, description="how long to wait for the last predictions at most")
    delivery_seconds: float = Field(
        DELIVERY_SECONDS, ge=1, le=600, description="a message that is not acknowledged by then has failed"
    )
    silent_seconds: float = Field(60, ge=1, le=600, description="how long a surge goes on without Prometheus")

    @field_validator("stages")
    @classmethod
    def _stages_can_be_read(cls, text: str) -> str:
        parse_stages(text)
        return text


def main(args: Args) -> dict[str, Any]:
    """Answer: each stage's rate and latencies, what became of every message, and why it stopped."""
    bootstrap = allowed_broker()
    began = time.time_ns()
    ledger = Ledger(EXERCISE_IDS + began // 1_000_000 * IDS_A_MILLISECOND, args.max_messages)
    stop = Brakes(
        ledger,
        deadline=time.monotonic() + args.deadline_seconds,
        max_messages=args.max_messages,
        max_failed=args.max_failed,
        stop_file=args.stop_file,
        silent_seconds=args.silent_seconds,
    )
    stop.take_signals()
    schedule = _schedule(args, ledger)
    with observer(ledger, _watched(args, bootstrap)):
        transactions = ExerciseTransactions()
        with undisturbed():
            client = producer(bootstrap, args.delivery_seconds)
            sender = Sender(client, settings().transactions_topic, args.run, ledger, schedule, stop, transactions)
            stopped_by = sender.send_all(sender.now() + round(LEAD_SECONDS * NANOSECONDS))
            ledger.said[Said.STOPPED] = 1
            told_to_end = stop.signalled
            patience = FLUSH_SECONDS if told_to_end else args.delivery_seconds + 5
            sender.drain(patience, lambda: told_to_end or not stop.signalled)
        if not told_to_end:
            _settle(ledger, sender.messages, args.settle_seconds, stop)
    if stop.signalled:
        stopped_by = brakes.SIGNAL
    found = _answer(args, bootstrap, ledger, schedule, sender, stopped_by)
    log.info("stopped by %s; %s", stopped_by, found["totals"])
    return _judged(args, found)


def allowed_broker() -> str:
    """The brokers of the settings, when every one of them is on the list of those that may be loaded."""
    asked = {broker.strip() for broker in settings().kafka_bootstrap.split(",") if broker.strip()}
    listed = {broker.strip() for broker in settings().attack_brokers.split(",") if broker.strip()}
    if not asked or not asked <= listed:
        raise BadInput(
            f"MLOPS_KAFKA_BOOTSTRAP is {settings().kafka_bootstrap}; an attack may load only what MLOPS_ATTACK_BROKERS "
            f"lists ({', '.join(sorted(listed)) or 'nothing'}): name a broker that is there for tests, or add this one "
            "when it is"
        )
    return ",".join(sorted(asked))


def _schedule(args: Args, ledger: Ledger) -> Schedule:
    if not args.raise_until:
        return Schedule(parse_stages(args.stages))
    surge = Surge(args.surge_factor, args.surge_hold, args.surge_cap, lambda: bool(ledger.said[Said.ENOUGH]))
    return Schedule(parse_stages(args.stages), surge)


def _watched(args: Args, bootstrap: str) -> Watched:
    chosen = settings()
    return Watched(
        run=args.run,
        bootstrap=bootstrap,
        inputs=chosen.transactions_topic,
        predictions=chosen.predictions_topic,
        dead_letters=chosen.dead_letter_topic,
        gateway=chosen.pushgateway_url,
        prometheus=chosen.prometheus_url,
        raise_until=args.raise_until,
        stop_when=args.stop_when,
    )


def _settle(ledger: Ledger, sent: int, seconds: float, stop: Brakes) -> None:
    """Wait until every acked message is answered, for so long at the most, or until told to end."""
    until = time.monotonic() + seconds
    while ledger.unaccounted(sent) and time.monotonic() < until and not stop.signalled:
        time.sleep(SETTLE_LOOK)


def _answer(
    args: Args, bootstrap: str, ledger: Ledger, schedule: Schedule, sender: Sender, stopped_by: str
) -> dict[str, Any]:
    stages, curves = answer.stages(ledger, schedule.legs, sender.messages, sender.stopped_at)
    return {
        "run": args.run,
        "broker": bootstrap,
        "started": schedule.legs[0].began / NANOSECONDS,
        "ended": sender.stopped_at / NANOSECONDS,
        "stopped_by": stopped_by,
        "first_id": ledger.first_id,
        "last_id": ledger.first_id + sender.messages - 1,
        "stages": stages,
        "totals": answer.totals(ledger, stages, sender.messages),
        "failures": dict(sender.failures),
        "queue_full": int(ledger.said[Said.QUEUE_FULL]),
        "capacity": answer.capacity(stages, args.surge_cap),
        "latency_curves": curves,
        "timeline": answer.timeline(ledger, sender.messages),
    }


def _judged(args: Args, found: dict[str, Any]) -> dict[str, Any]:
    """The answer itself, or with the exit code that its content demands."""
    totals, stopped_by = found["totals"], found["stopped_by"]
    if stopped_by in (brakes.SIGNAL, brakes.OBSERVER_DIED):
        _leave(args.result, found | {"error": f"ended early by {stopped_by}; the load has stopped"})
    if stopped_by == brakes.ERROR_BUDGET:
        raise Refused(
            f"{totals['failed']} of {totals['sent']} messages failed ({found['failures']}), more than "
            f"{args.max_failed:.1%} within ten seconds: look at the broker {found['broker']}",
            found,
        )
    if totals["unaccounted"]:
        raise Refused(
            f"{totals['unaccounted']} of {totals['acked']} acknowledged messages have neither prediction nor dead "
            f"letter {args.settle_seconds:g} s after the last: look at the scorer, or wait longer (--settle-seconds)",
            found,
        )
    return found


def _leave(result: Path | None, found: dict[str, Any]) -> None:
    """End with exit code 1 and the answer all the same: who stopped the attack wants to know what it did."""
    log.error("%s", found["error"])
    if result:
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=result.parent, prefix=".result-", delete=False) as file:
            file.write(json.dumps(found, allow_nan=False))
        Path(file.name).replace(result)
    sys.exit(FAILED)


if __name__ == "__main__":
    run(main)
