"""How good the models are beside the published tables, same data and same protocol: `python -m bench.quality`.

Chapter 3: train 2018-07-25 to 31, test 2018-08-08 to 14. Chapter 5: means over four folds whose training weeks start on
07-25, 08-01, 08-08 and 08-15. Parameters, and the candidate that is held to the goals, are those with the highest
overall figure (mean of AUC, AP and CP@100) on the validation folds, which start 14 days earlier; a test week is looked
at once, in the end.
Then the candidate that was chosen, after training windows of 14, 21 and 28 days, on the same test rows.

Needs the published transactions: Parquet files in MLOPS_REAL_DATA, or in ../shared/data beside the checkout.
Published figures: "Reproducible Machine Learning for Credit Card Fraud Detection" (Le Borgne et al., 2022), chapter 3
"Baseline fraud detection system", and chapter 5 "Model selection" (the parameters chosen on validation).
"""

import os
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench.report import Report
from include.code_version import ROOT
from include.fraud import candidates, metrics
from include.fraud.candidates import CANDIDATES, Parameters
from include.fraud.dataset import feature_matrix
from include.fraud.features import features
from include.fraud.metrics import Metrics
from include.fraud.protocol import Fold, prequential_folds, rows_to_test, rows_to_train
from include.fraud.schema import LABELS, TRANSACTIONS, conform

FIRST_TRAINING_DAY = date(2018, 7, 25)
FIRST_UNTOUCHED_DAY, UNTOUCHED_FOLDS = date(2018, 5, 16), 6  # their tests end before the first validation test begins
WINDOWS_DAYS = (7, 14, 21, 28)
GOALS = {
    "to reach": Metrics(auc_roc=0.876, average_precision=0.697, card_precision_at_100=0.301),
    "to aim at": Metrics(auc_roc=0.882, average_precision=0.702, card_precision_at_100=0.305),
}

CHAPTER_3 = {
    "logistic regression": Metrics(0.871, 0.606, 0.291),
    "decision tree of depth 2": Metrics(0.763, 0.496, 0.241),
    "random forest": Metrics(0.867, 0.658, 0.287),
    "XGBoost": Metrics(0.862, 0.639, 0.273),
}
CHAPTER_5 = {
    "decision tree": Metrics(0.797, 0.579, 0.284),
    "logistic regression": Metrics(0.868, 0.623, 0.297),
    "random forest": Metrics(0.870, 0.678, 0.299),
    "XGBoost": Metrics(0.869, 0.687, 0.303),
}
NAMES = {"auc_roc": "AUC", "average_precision": "AP", "card_precision_at_100": "CP@100"}


@dataclass(frozen=True)
class Rows:
    """Training and test rows of one fold, as arrays."""

    features: NDArray[np.float32]  # [training rows, 15]
    fraud: NDArray[np.int64]  # [training rows]
    test_features: NDArray[np.float32]  # [test rows, 15]
    test: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.DataFrame, training: Fold, test: Fold) -> "Rows":
        train, tested = rows_to_train(rows, training), rows_to_test(rows, test)
        return cls(feature_matrix(train), train["tx_fraud"].to_numpy(), feature_matrix(tested), tested)


@dataclass(frozen=True)
class Measured:
    """A candidate with some parameters, on each of several folds."""

    parameters: Parameters
    folds: list[Metrics]
    fit_seconds: list[float]

    @property
    def mean(self) -> Metrics:
        return metrics.mean(self.folds)


def main() -> int:
    """Exit code 0 when every goal is met."""
    folds = prequential_folds(FIRST_TRAINING_DAY)
    untouched = prequential_folds(FIRST_UNTOUCHED_DAY, UNTOUCHED_FOLDS)
    rows = inputs(untouched[0].train_first, folds[-1].test_last)
    validation = [Rows.of(rows, fold.validation(), fold.validation()) for fold in folds]
    test = [Rows.of(rows, fold, fold) for fold in folds]
    tried = {name: search(name, validation) for name in CANDIDATES}
    chosen = {name: best(grid, slice(None)) for name, grid in tried.items()}

    report = Report("quality")
    table(report, "ch. 3", CHAPTER_3)
    for name, grid in tried.items():
        measured = measure(name, best(grid, slice(1)).parameters, test[:1])
        figures(report, f"ch. 3, test: ours, {name}", measured)
    table(report, "ch. 5", CHAPTER_5)
    tested = {name: measure(name, found.parameters, test) for name, found in chosen.items()}
    for name, found in chosen.items():
        figures(report, f"ch. 5, validation: ours, {name}", found)
        figures(report, f"ch. 5, test: ours, {name}", tested[name])
        print(f"{name}: {dict(found.parameters)}", flush=True)
    for name, found in chosen.items():
        elsewhere = measure(name, found.parameters, [Rows.of(rows, fold, fold) for fold in untouched])
        figures(report, f"untouched weeks: ours, {name}", elsewhere)
    winner = max(chosen, key=lambda name: chosen[name].mean.overall)
    longer_windows(report, winner, tested[winner], rows, folds)
    reached = tested[winner].mean.as_dict()
    for kind, goals in GOALS.items():
        for name, goal in goals.as_dict().items():
            what = f"{kind}: {NAMES[name]}, mean of four test weeks, {winner}"
            report.goal(what, goal, reached[name], reached[name] >= goal)
    return report.finish()


def inputs(first: date, last: date) -> pl.DataFrame:
    """The published transactions of those days with labels and the model's inputs."""
    folder = Path(os.environ.get("MLOPS_REAL_DATA", ROOT.parent / "shared" / "data"))
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise SystemExit(f"no published data: {folder} has no Parquet file; set MLOPS_REAL_DATA to the folder of them")
    given = pl.concat(pl.read_parquet(file) for file in files)
    return features(conform(given, TRANSACTIONS | {"tx_fraud": LABELS["tx_fraud"]}, str(folder)), first, last)


def search(name: str, folds: list[Rows]) -> list[Measured]:
    """The candidate's whole grid on the validation folds."""
    return [measure(name, parameters, folds) for parameters in CANDIDATES[name].grid]


def best(tried: list[Measured], folds: slice) -> Measured:
    """The parameters with the highest overall figure on those of the validation folds; of equals the first."""
    return max(tried, key=lambda one: metrics.mean(one.folds[folds]).overall)


def measure(name: str, parameters: Parameters, folds: list[Rows]) -> Measured:
    """Fit and measure on each fold."""
    measured, seconds = [], []
    for rows in folds:
        began = time.perf_counter()
        model = candidates.fit(name, parameters, rows.features, rows.fraud)
        seconds.append(time.perf_counter() - began)
        day, customer, fraud = (
            column.to_numpy()
            for column in (rows.test["tx_datetime"].dt.date(), rows.test["customer_id"], rows.test["tx_fraud"])
        )
        measured.append(metrics.evaluate(day, customer, candidates.scores(model, rows.test_features), fraud))
    print(f"{sum(seconds):6.1f} s to fit {name} {dict(parameters)} on {len(folds)} folds", file=sys.stderr, flush=True)
    return Measured(parameters, measured, seconds)


def longer_windows(report: Report, name: str, one_week: Measured, rows: pl.DataFrame, folds: list[Fold]) -> None:
    """What more training days give, on the rows that test one week of training."""
    for days in WINDOWS_DAYS:
        measured = one_week
        if days > WINDOWS_DAYS[0]:
            longer = [Rows.of(rows, fold.trained_on(days), fold) for fold in folds]
            measured = measure(name, one_week.parameters, longer)
        figures(report, f"{name} after {days} training days", measured)


def table(report: Report, chapter: str, published: dict[str, Metrics]) -> None:
    """The rows of a published table."""
    for name, figure in published.items():
        for metric, value in figure.as_dict().items():
            report.row(f"{chapter}, test: published, {name}", NAMES[metric], "", [value])


def figures(report: Report, who: str, measured: Measured) -> None:
    """Our rows: the mean over the folds, as the published ones, and the time to fit one fold."""
    for metric, value in measured.mean.as_dict().items():
        report.row(who, NAMES[metric], "", [value])
    report.row(who, "fit", "s", measured.fit_seconds)


if __name__ == "__main__":
    sys.exit(main())
