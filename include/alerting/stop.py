"""Step: end the load and take back what the drill changed, whatever became of it.

`python -m include.alerting.stop --drill manual-2026-11-22`

Also right when nothing had begun, and when it is done twice.
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.alerting.prometheus import Prometheus
from include.alerting.pushgateway import JOB, OVER, Pushgateway
from include.alerting.web import Away
from include.command import StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SILENT_SECONDS = 30.0  # an attack that has not reported for so long is dead


class Args(StepArgs):
    """Which drill."""

    drill: str = Field(min_length=1)
    wait_seconds: float = Field(60, ge=0, description="how long the load may take to end")


def main(args: Args) -> dict[str, Any]:
    """Answer: whether the load still ran, and for how long. Raises ConnectionError when it cannot be told to stop."""
    pushgateway = Pushgateway(settings().pushgateway_url)
    prometheus = Prometheus(settings().prometheus_url)
    began = time.monotonic()
    pushgateway.push(JOB, {"drill": args.drill}, {OVER: 1})
    still_ran = runs(prometheus, args.drill)
    ended = not still_ran
    while not ended and time.monotonic() - began < args.wait_seconds:
        time.sleep(LOOK_SECONDS)
        ended = not runs(prometheus, args.drill)
    pushgateway.forget(JOB, {"drill": args.drill})
    pushgateway.forget("attack", {"run": args.drill})
    took = round(time.monotonic() - began, 1)
    if not ended:
        raise ConnectionError(
            f"the load of {args.drill} still runs {took:g} s after it was told to stop: end the task `attack`"
        )
    log.info("the load has ended; the drill's flag is taken down")
    return {"drill": args.drill, "load_still_ran": still_ran, "seconds": took}


def runs(prometheus: Prometheus, drill: str) -> bool:
    """Whether the attack reports that it runs. Without Prometheus nobody knows; the attack ends itself then."""
    run = f'{{run="{drill}"}}'
    alive = f"time() - push_time_seconds{run} < {SILENT_SECONDS:g}"
    try:
        return bool(prometheus.query(f"attack_running{run} == 1 and on (run) ({alive})"))
    except Away as error:
        log.warning("%s", error)
        return False


if __name__ == "__main__":
    run(main)
