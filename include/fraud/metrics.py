"""How good a score is: over all transactions, and for the investigators who can look at a hundred cards a day.

Definitions: "Reproducible Machine Learning for Credit Card Fraud Detection" (Le Borgne et al., 2022), chapter 4.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from include.command import BadInput

CARDS_PER_DAY = 100


@dataclass(frozen=True)
class Metrics:
    """All between 0 and 1; higher is better."""

    auc_roc: float
    average_precision: float
    card_precision_at_100: float

    @property
    def overall(self) -> float:
        """The mean of the three: what parameters and candidates are chosen by, so that none is bought with another."""
        return (self.auc_roc + self.average_precision + self.card_precision_at_100) / 3

    def as_dict(self) -> dict[str, float]:
        """For a result file or a tracking server."""
        return asdict(self)


def evaluate(day: ArrayLike, customer: ArrayLike, score: ArrayLike, fraud: ArrayLike) -> Metrics:
    """Measure one score per transaction.

    All four have the shape [rows]: the day (anything that sorts by time), the customer, the score (higher is more
    suspicious), 1 for fraud and 0 otherwise.
    Raises BadInput when only one class is present: neither curve is defined then.
    """
    days, customers, scores, labels = _columns(day, customer, score, fraud)
    frauds = int(labels.sum())
    if frauds in (0, len(labels)):
        raise BadInput(f"{frauds} frauds among {len(labels)} transactions: both are needed; take a longer window")
    _, card_precision = card_precision_at_k(days, customers, scores, labels)
    return Metrics(
        auc_roc=float(roc_auc_score(labels, scores)),
        average_precision=float(average_precision_score(labels, scores)),
        card_precision_at_100=card_precision,
    )


def mean(measured: list[Metrics]) -> Metrics:
    """The plain mean over folds, as the published tables have it."""
    if not measured:
        raise BadInput("0 folds were measured: a mean needs at least one")
    rows = np.array([tuple(one.as_dict().values()) for one in measured])
    return Metrics(*(float(value) for value in rows.mean(axis=0)))


def card_precision_at_k(
    day: ArrayLike, customer: ArrayLike, score: ArrayLike, fraud: ArrayLike, k: int = CARDS_PER_DAY
) -> tuple[NDArray[np.float64], float]:
    """Share of defrauded customers among the `k` most suspicious ones: per day in order of time [days], and its mean.

    A customer's score is the highest of the day; a customer is defrauded when any of the day's transactions is.
    Whoever was found on a day is left out on later days, because the card is blocked then. The share is of `k`, also
    on a day with fewer customers. Equal scores are taken in the order of the customer's id, so the answer is one.
    """
    days, customers, scores, labels = _columns(day, customer, score, fraud)
    if k < 1:
        raise BadInput(f"k={k}: at least one card a day must be looked at")
    names, customers = np.unique(customers, return_inverse=True)
    blocked = np.zeros(len(names), dtype=bool)
    shares = []
    for one_day in np.unique(days):
        rows = np.flatnonzero((days == one_day) & ~blocked[customers])
        highest = np.full(len(names), -np.inf)
        np.maximum.at(highest, customers[rows], scores[rows])
        defrauded = np.zeros(len(names), dtype=bool)
        defrauded[customers[rows][labels[rows]]] = True
        looked_at = np.argsort(-highest, kind="stable")[:k]
        found = looked_at[defrauded[looked_at]]
        blocked[found] = True
        shares.append(len(found) / k)
    return np.array(shares), float(np.mean(shares))


def _columns(
    day: ArrayLike, customer: ArrayLike, score: ArrayLike, fraud: ArrayLike
) -> tuple[NDArray, NDArray, NDArray[np.float64], NDArray[np.bool_]]:
    days, customers = np.asarray(day), np.asarray(customer)
    scores, labels = np.asarray(score, dtype=np.float64), np.asarray(fraud)
    lengths = [len(column) for column in (days, customers, scores, labels)]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise BadInput(f"day, customer, score and fraud have {lengths} rows: they must have the same number, above 0")
    if not np.isfinite(scores).all():
        raise BadInput(f"{int((~np.isfinite(scores)).sum())} scores are not finite: a model must score every row")
    if not np.isin(labels, (0, 1)).all():
        raise BadInput(f"fraud holds {np.unique(labels)[:5].tolist()}: only 0 and 1 are labels; drop unlabelled rows")
    return days, customers, scores, labels.astype(bool)
