"""Step: take back what a rollout began, and make sure that it is taken back.

`python -m include.serving.rollout.undo --rollout manual-2025-06-30`
"""

import logging
import time
from typing import Any

from pydantic import Field

from include.command import StepArgs, run
from include.serving.rollout.deployment import Rollout
from include.serving.rollout.live import live_deployment
from include.serving.rollout.roll import watch

log = logging.getLogger(__name__)


class Args(StepArgs):
    """Undo a rollout."""

    rollout: str = Field(min_length=1, description="id of the rollout: that of the DAG run")
    begun: bool = Field(True, description="whether the rollout came as far as to change something")
    deadline: float = Field(900, gt=0, description="seconds within which every replica must be of the old version")


def main(args: Args) -> dict[str, Any]:
    """Answer: which version is live again, in which time. What somebody else rolled out since is left alone.

    What was live before stands at the Deployment, so nothing of the run is needed, however early it failed.
    Raises Refused when the old version does not come back: somebody must look at once.
    """
    if not args.begun:
        log.info("nothing was begun: nothing to undo")
        return {"undone": False, "version": "", "said": "nothing was begun"}
    deployment = live_deployment()
    began = time.monotonic()
    state = deployment.state()
    undoing = f"{args.rollout} (undo)"
    if state.rollout.id == args.rollout:
        old, verdict = state.rollout.previous_version, f"version {state.version} was undone"
        deployment.set_version(old, f"{undoing}: {verdict}", Rollout(undoing, old, verdict))
    elif state.rollout.id == undoing:  # an earlier try of ours
        old, verdict = state.version, state.rollout.verdict
    else:
        said = f"version {state.version or 'none'} was not rolled out by {args.rollout}: nothing to undo"
        log.info("%s", said)
        return {"undone": False, "version": state.version, "said": said}
    if old:
        watch(deployment, old, args.deadline)
    seconds = round(time.monotonic() - began, 1)
    said = f"{verdict}: {f'version {old}' if old else 'no version'} is live again after {seconds:.0f} s"
    log.warning("%s", said)
    return {"undone": True, "version": old, "seconds": seconds, "said": said}


if __name__ == "__main__":
    run(main)
