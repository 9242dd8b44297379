"""Step: take back what a rollout began, and make sure that it is taken back.

`python -m include.serving.rollout.undo --plan "$(cat plan.json)"`
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.command import StepArgs, run
from include.serving.rollout.deployment import Rollout, live_deployment
from include.serving.rollout.preflight import Planned
from include.serving.rollout.roll import watch

log = logging.getLogger(__name__)


class Args(StepArgs):
    """Undo a rollout."""

    plan: Planned | None = Field(None, description="none: there was no plan, so nothing was begun")
    deadline: float = Field(900, gt=0, description="seconds within which every replica must be of the old version")


def main(args: Args) -> dict[str, Any]:
    """Answer: which version is live again, in which time. What somebody else rolled out since is left alone.

    Raises Refused when the old version does not come back: somebody must look at once.
    """
    plan = args.plan
    if plan is None:
        return {"undone": False, "version": "", "said": "nothing was begun"}
    deployment = live_deployment()
    began = time.monotonic()
    state = deployment.state()
    undoing = f"{plan.rollout} (undo)"
    if state.rollout.id not in (plan.rollout, undoing):
        said = f"version {state.version or 'none'} was not rolled out by {plan.rollout}: nothing to undo"
        log.info("%s", said)
        return {"undone": False, "version": state.version, "said": said}
    old = plan.previous_version
    verdict = f"version {plan.version} was undone"
    if state.rollout.id == plan.rollout:
        deployment.set_version(old, f"{undoing}: {plan.name} version {plan.version}", Rollout(undoing, old, verdict))
    if old:
        watch(deployment, old, args.deadline)
    seconds = round(time.monotonic() - began, 1)
    said = f"{verdict}: {f'version {old}' if old else 'no version'} is live again after {seconds:.0f} s"
    log.warning("%s", said)
    return {"undone": True, "version": old, "seconds": seconds, "said": said}


if __name__ == "__main__":
    run(main)
