"""Step: does the new version hold up under real traffic for a while?

`python -m include.serving.rollout.bake --plan "$(cat plan.json)" --seconds 120`

Reads every replica's own metrics. Too little traffic to judge by is no pass: the answer is no, and says inconclusive.
"""

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import Field

from include.command import Refused, StepArgs, run
from include.progress import track
from include.serving.rollout.deployment import Deployment, Pod
from include.serving.rollout.live import live_deployment
from include.serving.rollout.preflight import Planned

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
TIMEOUT_SECONDS = 5.0
PATH = "/predict"


class Args(StepArgs):
    """Watch a version that is live."""

    plan: Planned
    seconds: float = Field(120, gt=0, description="how long to watch")
    least_requests: int = Field(100, ge=1, description="fewer requests than this prove nothing")
    most_errors: float = Field(0.01, ge=0, le=1, description="share of answers that may be 5xx")
    most_p95: float = Field(0.5, gt=0, description="seconds within which 95 % of the answers must be there")


@dataclass
class Counted:
    """What one replica has counted so far."""

    requests: float = 0.0
    errors: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)  # upper bound in s -> answers within it
    started: float = 0.0


@dataclass
class Seen:
    """A replica at the first and at the last look."""

    first: Counted
    last: Counted
    restarts_before: int
    restarts: int

    @property
    def restarted(self) -> bool:
        """Whether it died in between."""
        return self.restarts > self.restarts_before or self.last.started != self.first.started


def main(args: Args) -> dict[str, Any]:
    """Answer: requests, share of errors, p95 and restarts. Raises Refused on any but a clear pass."""
    deployment = live_deployment()
    seen: dict[str, Seen] = {}
    looks = max(2, math.ceil(args.seconds / LOOK_SECONDS))
    for number in track(range(looks), "bake"):
        if number:
            time.sleep(LOOK_SECONDS)
        look(deployment, args.plan.version, seen)
    found = figures(seen)
    problem = judge(found, args)
    said = (
        f"version {args.plan.version} over {args.seconds:.0f} s: {found['requests']} requests, "
        f"{found['error_share']:.2%} errors, p95 {_milliseconds(found['p95_seconds'])}, {found['restarts']} restarts"
    )
    if problem:
        raise Refused(f"{problem}; {said}", found)
    log.info("%s", said)
    return found


def look(deployment: Deployment, version: str, seen: dict[str, Seen]) -> None:
    """Note what every replica counts now; one that does not answer keeps what it had."""
    for pod in deployment.pods():
        if pod.version != version:
            continue
        counted = scrape(pod)
        if counted is None:
            continue
        before = seen.get(pod.name)
        if before is None:
            seen[pod.name] = Seen(counted, counted, pod.restarts, pod.restarts)
        else:
            before.last, before.restarts = counted, pod.restarts


def scrape(pod: Pod) -> Counted | None:
    """The replica's metrics, or None when it does not answer."""
    try:
        answer = httpx.get(f"{pod.url}/metrics", timeout=TIMEOUT_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        log.warning("%s gives no metrics: %s", pod.name, error)
        return None
    return count(answer.text)


def count(text: str) -> Counted:
    """Read Prometheus' text format. Answers 4xx do not count: a wrong request says nothing of the model."""
    counted = Counted()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "process_start_time_seconds":
                counted.started = sample.value
            if sample.labels.get("path") != PATH:
                continue
            if sample.name == "http_requests_total" and not sample.labels["status"].startswith("4"):
                counted.requests += sample.value
                counted.errors += sample.value if sample.labels["status"].startswith("5") else 0
            elif sample.name == "http_request_duration_seconds_bucket":
                counted.buckets[float(sample.labels["le"])] = sample.value
    return counted


def figures(seen: dict[str, Seen]) -> dict[str, Any]:
    """Over all replicas, between the first and the last look."""
    requests = sum(max(0.0, one.last.requests - one.first.requests) for one in seen.values())
    errors = sum(max(0.0, one.last.errors - one.first.errors) for one in seen.values())
    buckets: dict[float, float] = {}
    for one in seen.values():
        for bound, value in one.last.buckets.items():
            buckets[bound] = buckets.get(bound, 0.0) + max(0.0, value - one.first.buckets.get(bound, 0.0))
    return {
        "replicas": len(seen),
        "requests": int(requests),
        "error_share": errors / requests if requests else 0.0,
        "p95_seconds": quantile(0.95, buckets),
        "restarts": sum(one.restarted for one in seen.values()),
    }


def quantile(share: float, buckets: dict[float, float]) -> float | None:
    """As Prometheus' histogram_quantile: linear within the bucket; None without answers.

    Source: Prometheus documentation, "Query functions", histogram_quantile.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    below, lower = 0.0, 0.0
    for bound in bounds:
        within = buckets[bound]
        if within >= share * total:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (share * total - below) / (within - below)
        below, lower = within, bound
    return lower


def judge(found: dict[str, Any], args: Args) -> str:
    """What speaks against the version; empty when nothing does."""
    if found["restarts"]:
        return f"failed: {found['restarts']} replicas died"
    if found["requests"] < args.least_requests or found["p95_seconds"] is None:
        return f"inconclusive: {found['requests']} requests prove nothing, at least {args.least_requests} are needed"
    if found["error_share"] > args.most_errors:
        return f"failed: {found['error_share']:.2%} errors, at most {args.most_errors:.2%} are allowed"
    if found["p95_seconds"] > args.most_p95:
        return f"failed: p95 {_milliseconds(found['p95_seconds'])}, at most {_milliseconds(args.most_p95)} is allowed"
    return ""


def _milliseconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    run(main)
