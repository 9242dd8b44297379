"""Step: ask for the new version and watch until every replica has it.

`python -m include.serving.rollout.roll --plan "$(cat plan.json)"`
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.command import Refused, StepArgs, run
from include.serving.rollout.deployment import Deployment, Rollout, State
from include.serving.rollout.live import live_deployment
from include.serving.rollout.preflight import Planned

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


class Args(StepArgs):
    """Roll a version out."""

    plan: Planned
    deadline: float = Field(900, gt=0, description="seconds within which every replica must have the version")


def main(args: Args) -> dict[str, Any]:
    """Answer: what was replaced by what, in which time. A try that was killed is continued, not begun again."""
    plan, deployment = args.plan, live_deployment()
    began = time.monotonic()
    state = deployment.state()
    if (state.rollout.id, state.version) != (plan.rollout, plan.version):
        if state.rollout.id != plan.rollout and state.version != plan.previous_version:
            raise Refused(
                f"version {state.version or 'none'} is live by now, not {plan.previous_version or 'none'} as when this "
                f"rollout was planned: somebody else was faster; run redeploy_model again"
            )
        cause = f"{plan.rollout}: {plan.name} version {plan.version}"
        deployment.set_version(plan.version, cause, Rollout(plan.rollout, plan.previous_version))
    else:
        log.info("this rollout has begun already; watching it")
    settled = watch(deployment, plan.version, args.deadline)
    return {
        "version": plan.version,
        "previous_version": plan.previous_version,
        "replicas": settled.replicas,
        "seconds": round(time.monotonic() - began, 1),
    }


def watch(deployment: Deployment, version: str, deadline: float) -> State:
    """Wait until the version is everywhere. Raises Refused when that will not happen, or not within `deadline` s."""
    until = time.monotonic() + deadline
    said = ""
    while True:
        state = deployment.state()
        if state.progress != said:
            said = state.progress
            log.info("%s", said)
        if state.version != version:
            raise Refused(
                f"version {state.version or 'none'} is asked for by now, not {version}: somebody else changed it "
                f"({state.rollout.id or 'by hand'})"
            )
        if state.settled:
            return state
        if state.stuck:
            raise Refused(f"the rollout of version {version} is stuck: {state.stuck} ({state.progress})")
        if time.monotonic() > until:
            raise Refused(f"version {version} was not everywhere within {deadline:.0f} s: {state.progress}")
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run(main)
