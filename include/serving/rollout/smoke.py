"""Step: does the new version answer its golden requests as training did?

`python -m include.serving.rollout.smoke --plan "$(cat plan.json)"`
"""

import logging
from typing import Any

import httpx

from include.command import Refused, StepArgs, run
from include.model_package import Golden
from include.serving.fetch import servable
from include.serving.rollout.live import live_deployment
from include.serving.rollout.preflight import Planned
from include.settings import settings

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
TIMEOUT_SECONDS = 10.0
PROBLEMS_TOLD = 5


class Args(StepArgs):
    """Try a version that is live."""

    plan: Planned


def main(args: Args) -> dict[str, Any]:
    """Answer: how many requests were right. Raises Refused when one was not."""
    golden = servable(args.plan.name, args.plan.version).golden
    addresses = {"the service": settings().model_api_url} | {pod.name: pod.url for pod in live_deployment().pods()}
    problems: list[str] = []
    largest = 0.0
    for name, url in addresses.items():
        off, wrong = try_golden(name, url, args.plan.version, golden)
        largest = max(largest, off)
        problems += wrong
    asked = len(golden) * len(addresses)
    if problems:
        raise Refused(
            f"version {args.plan.version} answers {len(problems)} of {asked} golden requests wrongly: "
            + "; ".join(problems[:PROBLEMS_TOLD])
        )
    log.info("%d golden requests right, by %s; largest difference %.1e", asked, ", ".join(addresses), largest)
    return {"requests": asked, "largest_difference": largest}


def try_golden(name: str, url: str, version: str, golden: list[Golden]) -> tuple[float, list[str]]:
    """The largest difference of a probability, and what is wrong; each request on a connection of its own."""
    problems: list[str] = []
    largest = 0.0
    for one in golden:
        try:
            answer = httpx.post(f"{url}/predict", json=one.request, timeout=TIMEOUT_SECONDS, trust_env=False)
        except httpx.TransportError as error:
            problems.append(f"{name}: {type(error).__name__} {error}")
            continue
        if answer.status_code != 200:
            problems.append(f"{name}: status {answer.status_code}, {answer.text[:200]}")
            continue
        said = answer.json()
        off = abs(said["probability"] - one.probability)
        largest = max(largest, off)
        if said["model_version"] != version:
            problems.append(f"{name}: version {said['model_version']} answered")
        elif not off <= TOLERANCE:
            problems.append(
                f"{name}: {said['probability']:.6f} where training found {one.probability:.6f} "
                f"(transaction {one.request['transaction_id']})"
            )
    return largest, problems


if __name__ == "__main__":
    run(main)
