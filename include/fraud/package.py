"""Step: put beside the winner's model what it needs to be served: histories, a threshold, golden requests.

`python -m include.fraud.package --plan … --dataset … --evaluation …`
"""

import hashlib
import logging
import tempfile
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from include.command import BadInput, StepArgs, run
from include.fraud import event_log, onnx_export, tracking
from include.fraud.dataset import Dataset, feature_matrix
from include.fraud.evaluation import Evaluation
from include.fraud.features import labelled_history
from include.fraud.lake import Lake
from include.fraud.metrics import CARDS_PER_DAY
from include.fraud.online import KINDS
from include.fraud.plan import Plan
from include.fraud.protocol import rows_to_test
from include.fraud.schema import TRANSACTIONS
from include.fraud.windows import FEATURES
from include.model_package import FOLDER, SNAPSHOT, Golden, Manifest, write_manifest, write_snapshot
from include.settings import settings

log = logging.getLogger(__name__)

GOLDEN_FRAUDS, GOLDEN_GENUINE = 16, 48


class Args(StepArgs):
    """Package the winner of a comparison."""

    plan: Plan
    dataset: Dataset
    evaluation: Evaluation


def main(args: Args) -> dict[str, Any]:
    """Answer: what was packed. Doing it again replaces the package with one that is the same."""
    client = tracking.connect()
    run_id = args.evaluation.run_id
    onnx = tracking.onnx_of_run(client, run_id)
    rows = rows_to_test(args.dataset.read(), args.plan.fold)
    with tempfile.TemporaryDirectory() as name:
        manifest = pack(Path(name), run_id, onnx, rows, args.plan.as_of)
        megabytes = round((Path(name) / SNAPSHOT).stat().st_size / 1e6, 1)
        client.log_artifacts(run_id, name, FOLDER)
    log.info("packed %d golden requests and %.1f MB of histories", len(manifest.golden), megabytes)
    return {
        "run_id": run_id,
        "threshold": manifest.threshold,
        "golden": len(manifest.golden),
        "snapshot_megabytes": megabytes,
    }


def pack(folder: Path, run_id: str, onnx: bytes, rows: pl.DataFrame, as_of: date) -> Manifest:
    """Write all of a package but the model itself; `rows` are the test week's, histories are those known on `as_of`."""
    scores = onnx_export.scores(onnx, feature_matrix(rows)).astype(np.float64)
    days = rows["tx_datetime"].dt.date()
    first, last = cast(date, days.min()), cast(date, days.max())
    known = labelled_history(Lake(settings().lake_uri), first, last, as_of)
    golden, of_golden = golden_requests(rows, scores, known)
    histories = event_log.histories(as_of, as_of)
    write_snapshot(folder / SNAPSHOT, {kind: [*of_golden[kind], *histories[kind]] for kind in KINDS})
    manifest = Manifest(run_id, hashlib.sha256(onnx).hexdigest(), threshold(rows, scores), golden)
    write_manifest(folder, manifest)
    return manifest


def threshold(rows: pl.DataFrame, scores: np.ndarray) -> float:
    """The score from which a transaction is worth a look: people can check CARDS_PER_DAY cards a day.

    Mean over the test days of the score of the last card that is among them.
    """
    cards = (
        rows.select(pl.col("tx_datetime").dt.date().alias("day"), "customer_id")
        .with_columns(pl.Series("score", scores))
        .group_by("day", "customer_id")
        .agg(pl.col("score").max())
    )
    last = cards.group_by("day").agg(pl.col("score").top_k(CARDS_PER_DAY).min())
    return float(last["score"].mean())  # type: ignore[arg-type]


def golden_requests(
    rows: pl.DataFrame, scores: np.ndarray, known: pl.DataFrame
) -> tuple[list[Golden], dict[str, list[tuple[int, bytes]]]]:
    """Transactions of the test week under ids below zero, one customer and terminal each, and the histories of those.

    Half-way between chance and design: the first rows of a seeded shuffle, frauds apart from genuine ones.
    Raises BadInput when the test week has too few of either.
    """
    numbered = rows.with_columns(pl.Series("score", scores)).sample(fraction=1.0, shuffle=True, seed=0)
    chosen = pl.concat(
        [
            numbered.filter(tx_fraud=1).head(GOLDEN_FRAUDS),
            numbered.filter(tx_fraud=0).head(GOLDEN_GENUINE),
        ]
    )
    if chosen.is_empty():
        raise BadInput("the test week has no rows to take golden requests from; choose another week")
    golden: list[Golden] = []
    histories: dict[str, list[tuple[int, bytes]]] = {kind: [] for kind in KINDS}
    for number, row in enumerate(chosen.iter_rows(named=True)):
        alias = -1 - number
        before = known.filter(
            (pl.col("tx_datetime") < row["tx_datetime"])
            | ((pl.col("tx_datetime") == row["tx_datetime"]) & (pl.col("transaction_id") < row["transaction_id"]))
        )
        for kind in KINDS:
            own = event_log.packed(before.filter(pl.col(f"{kind}_id") == row[f"{kind}_id"]))[kind]
            histories[kind] += [(alias, events) for _, events in own]
        request = {name: row[name] for name in TRANSACTIONS} | {
            "transaction_id": alias,
            "customer_id": alias,
            "terminal_id": alias,
            "tx_datetime": row["tx_datetime"].isoformat(),
        }
        golden.append(Golden(request, [float(row[name]) for name in FEATURES], row["score"]))
    return golden, histories


if __name__ == "__main__":
    run(main)
