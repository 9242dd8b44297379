"""Step: the best candidate of the validation week meets the champion on the same test week.

`python -m include.fraud.evaluate --plan "$(cat plan.json)" --dataset "$(cat dataset.json)" --trained "$(cat all.json)"`
"""

import logging

import numpy as np
import polars as pl
from mlflow import MlflowClient

from include.command import StepArgs, run
from include.fraud import metrics, onnx_export, tracking
from include.fraud.bootstrap import paired_bootstrap
from include.fraud.dataset import Dataset, feature_matrix
from include.fraud.evaluation import Difference, Evaluation, decide
from include.fraud.plan import Plan
from include.fraud.protocol import rows_to_test
from include.fraud.tracking import CHAMPION, ONNX_SHA256, Version
from include.fraud.train import Trained

log = logging.getLogger(__name__)


class Args(StepArgs):
    """Compare the best candidate with the champion, register it, and say whether it should be promoted."""

    plan: Plan
    dataset: Dataset
    trained: list[Trained]


def main(args: Args) -> Evaluation:
    """Answer: the comparison and its verdict; the winner is registered unless it is a dry run or nothing changed."""
    client = tracking.connect()
    # Whoever is champion now is the one compared with, and the one promotion will insist on.
    champion = tracking.version_with_alias(client, CHAMPION)
    winner = max(args.trained, key=lambda one: metrics.Metrics(**one.validation).overall)
    rows = rows_to_test(args.dataset.read(), args.plan.fold)
    verdict = compare(client, args.plan, winner, champion, rows)
    log.info("%s", verdict.verdict)
    client.set_tag(winner.run_id, "verdict", verdict.verdict)
    if verdict.dry_run or verdict.decision == "unchanged":
        return verdict
    tags = {"candidate": winner.candidate, "as_of": str(args.plan.as_of), ONNX_SHA256: winner.onnx_sha256}
    version = tracking.register(client, winner.run_id, tags, verdict.verdict)
    return verdict.model_copy(update={"version": version.version})


def compare(
    client: MlflowClient, plan: Plan, winner: Trained, champion: Version | None, rows: pl.DataFrame
) -> Evaluation:
    """Score the test rows with both models and decide."""
    columns = [rows["tx_datetime"].dt.date(), rows["customer_id"], rows["tx_fraud"]]
    day, customer, fraud = (column.to_numpy() for column in columns)
    ours = onnx_export.scores(tracking.onnx_of_run(client, winner.run_id), feature_matrix(rows))
    test = metrics.evaluate(day, customer, ours, fraud).as_dict()
    over_chance = _difference(customer, fraud, np.zeros_like(ours), ours)
    champion_test, difference, same = None, None, False
    if champion:
        theirs = onnx_export.scores(tracking.onnx_of_run(client, champion.run_id), feature_matrix(rows))
        champion_test = metrics.evaluate(day, customer, theirs, fraud).as_dict()
        difference = _difference(customer, fraud, theirs, ours)
        same = champion.onnx_sha256 == winner.onnx_sha256
    decision, verdict = decide(
        winner.candidate,
        test["average_precision"],
        plan.floor,
        over_chance,
        f"{champion} ({champion_test['average_precision']:.4f})" if champion and champion_test else None,
        difference,
        plan.rule,
        plan.margin,
    )
    if same and champion:
        decision, verdict = "unchanged", f"{winner.candidate} is the same model as the champion, {champion}: kept."
    return Evaluation(
        as_of=plan.as_of,
        winner=winner.candidate,
        run_id=winner.run_id,
        decision=decision,
        verdict=f"Dry run: {verdict}" if plan.dry_run else verdict,
        test=test,
        over_chance=over_chance,
        champion_version=champion.version if champion else None,
        champion_test=champion_test,
        difference=difference,
        dry_run=plan.dry_run,
        version=champion.version if same and champion else None,
    )


def _difference(customer: np.ndarray, fraud: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> Difference:
    found = paired_bootstrap(customer, fraud, champion, challenger)
    return Difference(estimate=found.estimate, low=found.low, high=found.high)


if __name__ == "__main__":
    run(main)
