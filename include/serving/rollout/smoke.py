"""Step: does the new version answer its golden requests as training did?

`python -m include.serving.rollout.smoke --plan "$(cat plan.json)"`
"""

import logging
from dataclasses import dataclass, field
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
SERVICE = "the service"


class Args(StepArgs):
    """Try a version that is live."""

    plan: Planned


def main(args: Args) -> dict[str, Any]:
    """Answer: how many requests were right. Raises Refused when one was not."""
    golden = servable(args.plan.name, args.plan.version).golden
    live = live_deployment()
    addresses = {SERVICE: settings().model_api_url} | {pod.name: pod.url for pod in live.pods() if pod.ready}
    problems: list[str] = []
    largest = 0.0
    for name, url in addresses.items():
        tried = try_golden(name, url, args.plan.version, golden)
        largest = max(largest, tried.largest)
        problems += tried.wrong
        # The autoscaler may remove a replica at any time. What it does not answer then, the others do.
        if tried.unanswered and name != SERVICE and name not in {pod.name for pod in live.pods()}:
            log.info("%s was removed meanwhile", name)
        else:
            problems += tried.unanswered
    asked = len(golden) * len(addresses)
    if problems:
        raise Refused(
            f"version {args.plan.version} answers {len(problems)} of {asked} golden requests wrongly: "
            + "; ".join(problems[:PROBLEMS_TOLD])
        )
    log.info("%d golden requests right, by %s; largest difference %.1e", asked, ", ".join(addresses), largest)
    return {"requests": asked, "largest_difference": largest}


@dataclass
class Tried:
    """What one address made of the golden requests; `largest` is the largest difference of a probability."""

    largest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


def try_golden(name: str, url: str, version: str, golden: list[Golden]) -> Tried:
    """Ask all of them, each on a connection of its own."""
    tried = Tried()
    for one in golden:
        try:
            answer = httpx.post(f"{url}/predict", json=one.request, timeout=TIMEOUT_SECONDS, trust_env=False)
        except httpx.TransportError as error:
            tried.unanswered.append(f"{name}: {type(error).__name__} {error}")
            continue
        if answer.status_code != 200:
            # 503: it is being stopped, or does not serve
            problems = tried.unanswered if answer.status_code == 503 else tried.wrong
            problems.append(f"{name}: status {answer.status_code}, {answer.text[:200]}")
            continue
        said = answer.json()
        off = abs(said["probability"] - one.probability)
        tried.largest = max(tried.largest, off)
        if said["model_version"] != version:
            tried.wrong.append(f"{name}: version {said['model_version']} answered")
        elif not off <= TOLERANCE:
            tried.wrong.append(
                f"{name}: {said['probability']:.6f} where training found {one.probability:.6f} "
                f"(transaction {one.request['transaction_id']})"
            )
    return tried


if __name__ == "__main__":
    run(main)
