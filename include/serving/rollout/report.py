"""Step: write down that a rollout went well, where people look for it.

`python -m include.serving.rollout.report --plan … --rolled … --smoke … --bake …`
"""

import logging
from dataclasses import replace
from typing import Any

from include.command import StepArgs, run
from include.serving.rollout.live import live_deployment
from include.serving.rollout.preflight import Planned

log = logging.getLogger(__name__)


class Args(StepArgs):
    """What the steps before found."""

    plan: Planned
    rolled: dict[str, Any]
    smoke: dict[str, Any]
    bake: dict[str, Any]


def main(args: Args) -> dict[str, Any]:
    """Answer: the rollout in one sentence, and its figures. The sentence is also noted at the Deployment."""
    plan, bake = args.plan, args.bake
    replaced = f"version {plan.previous_version}" if plan.previous_version else "nothing"
    said = (
        f"{plan.name} version {plan.version} replaced {replaced} in {args.rolled['seconds']:.0f} s; "
        f"{args.smoke['requests']} golden requests right; then {bake['requests']} requests with "
        f"{bake['error_share']:.2%} errors and p95 {bake['p95_seconds'] * 1000:.0f} ms."
    )
    deployment = live_deployment()
    deployment.record(replace(deployment.state().rollout, verdict=said))
    log.info("%s", said)
    return {"version": plan.version, "verdict": said, "rolled": args.rolled, "smoke": args.smoke, "bake": bake}


if __name__ == "__main__":
    run(main)
