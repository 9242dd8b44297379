"""Step: make the winner of a comparison the champion.

`python -m include.fraud.promote --evaluation "$(cat evaluation.json)"`
"""

import logging
from typing import Any

from mlflow import MlflowClient

from include.command import BadInput, Refused, StepArgs, run
from include.fraud import tracking
from include.fraud.evaluation import Evaluation
from include.fraud.tracking import CHAMPION, PREVIOUS_CHAMPION
from include.settings import settings

log = logging.getLogger(__name__)


class Args(StepArgs):
    """Move the alias `champion` to the winner of a comparison."""

    evaluation: Evaluation


def main(args: Args) -> dict[str, Any]:
    """Answer: the new champion, which is also the extra of the asset event `fraud_model`."""
    verdict = args.evaluation
    if verdict.decision != "promote" or verdict.version is None:
        raise BadInput(
            f"decision is {verdict.decision!r}, version {verdict.version}: only a registered winner that is to be "
            f"promoted can be ({verdict.verdict})"
        )
    promote(tracking.connect(), verdict, verdict.version)
    log.info("%s", verdict.verdict)
    return {
        "name": settings().model_name,
        "version": verdict.version,
        "run_id": verdict.run_id,
        "candidate": verdict.winner,
        "metrics": verdict.test,
        "previous_version": verdict.champion_version,
        "verdict": verdict.verdict,
    }


def promote(client: MlflowClient, verdict: Evaluation, version: str) -> None:
    """Move the alias if it still points where it did when the comparison began; the old champion keeps an alias too.

    MLflow has no compare-and-set: a move by somebody else between the look and the set, milliseconds, goes unseen.
    Raises Refused when the champion is another one by now.
    """
    found = tracking.version_with_alias(client, CHAMPION)
    now = found.version if found else None
    if now == version:  # an earlier try of this step got this far
        return
    if now != verdict.champion_version:
        raise Refused(
            f"{verdict.winner} (version {version}) won against {_named(verdict.champion_version)}, but the "
            f"champion is {_named(now)} by now: nothing was moved; run retrain_model again to compare with it"
        )
    name = settings().model_name
    if now:
        client.set_registered_model_alias(name, PREVIOUS_CHAMPION, now)
    client.set_registered_model_alias(name, CHAMPION, version)


def _named(version: str | None) -> str:
    return f"version {version}" if version else "no version"


if __name__ == "__main__":
    run(main)
