"""Step: may this version be rolled out, now and by us?

`python -m include.serving.rollout.preflight --rollout manual-2025-06-30 --version 3`
"""

import logging
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from include.command import BadInput, StepArgs, run
from include.serving.fetch import servable
from include.serving.rollout.deployment import State
from include.serving.rollout.live import live_deployment
from include.settings import settings

log = logging.getLogger(__name__)


class Planned(BaseModel):
    """What is to be done."""

    model_config = ConfigDict(frozen=True)

    rollout: str = Field(description="id of the rollout: that of the DAG run")
    name: str
    version: str
    previous_version: str = Field(description="what is live before; empty: nothing")
    action: Literal["roll", "nothing"]
    said: str


class Args(StepArgs):
    """Which version, for which rollout."""

    rollout: str = Field(min_length=1, description="id that tells this rollout from others, the same on every try")
    version: str | None = Field(None, description="version to roll out (default, or empty: the champion)")
    force: bool = Field(False, description="roll out even though the service runs at its maximum of replicas")


def main(args: Args) -> Planned:
    """Answer: the plan. A version that is live already needs nothing."""
    name = settings().model_name
    manifest = servable(name, args.version or None)
    deployment = live_deployment()
    missing = deployment.forbidden()
    if missing:
        raise BadInput(
            f"these credentials may not {'; '.join(missing)}: run with the service account that the chart made for "
            f"rollouts ({settings().rollout_service_account})"
        )
    state = deployment.state()
    refuse_bad_moment(state, args.rollout, manifest.version, args.force)
    ours = state.rollout.id == args.rollout
    live = state.version == manifest.version and state.settled
    action: Literal["roll", "nothing"] = "nothing" if live and not ours else "roll"
    previous = state.rollout.previous_version if ours else state.version
    said = (
        f"{name} version {manifest.version} is live already: nothing to do."
        if action == "nothing"
        else f"{name} version {manifest.version} replaces {f'version {previous}' if previous else 'nothing'}."
    )
    log.info("%s", said)
    return Planned(
        rollout=args.rollout,
        name=name,
        version=manifest.version,
        previous_version=previous,
        action=action,
        said=said,
    )


def refuse_bad_moment(state: State, rollout: str, version: str, force: bool) -> None:
    """Raises ConnectionError while another rollout is under way or no replica is to spare: both end by themselves."""
    if state.rollout.id == rollout:  # an earlier try of ours
        return
    if state.version and not state.settled and not state.stuck:
        raise ConnectionError(
            f"another rollout is under way ({state.rollout.id or 'by hand'}: version {state.version}, "
            f"{state.progress}); version {version} waits until it has ended"
        )
    if state.version and state.replicas >= state.at_most and not force:
        raise ConnectionError(
            f"the service runs at its maximum of {state.at_most} replicas, so it is busy, and a rollout makes it "
            f"busier: version {version} waits until the peak is over, or comes with force"
        )


if __name__ == "__main__":
    run(main)
