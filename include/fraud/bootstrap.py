"""Is one score really better than another, or was it luck? A paired bootstrap over customers.

Transactions of one customer are not independent, so customers are drawn, with all their rows; both scores are measured
on the same draw, so what they have in common cancels out.
Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 (percentile interval), 16.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """Average precision of the challenger minus the champion's: on all rows, and the interval over the resamples."""

    estimate: float
    low: float
    high: float
    share_better: float  # of the resamples, those in which the challenger was ahead


def paired_bootstrap(
    customer: ArrayLike, fraud: ArrayLike, champion: ArrayLike, challenger: ArrayLike, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two scores of the same rows; all four have the shape [rows]. Seeded: the same input, the same answer."""
    names, customers = np.unique(np.asarray(customer), return_inverse=True)
    frauds = np.asarray(fraud).astype(bool)
    ranked = [_Ranked.by(np.asarray(score, dtype=np.float64), customers, frauds) for score in (champion, challenger)]
    everyone = np.ones(len(names))
    estimate = ranked[1].average_precision(everyone) - ranked[0].average_precision(everyone)
    draw = np.random.default_rng(SEED)
    differences = np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names)).astype(np.float64)
        differences[number] = ranked[1].average_precision(times) - ranked[0].average_precision(times)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(differences, (tail, 1 - tail))
    return Comparison(float(estimate), float(low), float(high), float(np.nanmean(differences > 0)))


@dataclass(frozen=True)
class _Ranked:
    """Rows from the highest score down, so that a resample needs no sorting."""

    customers: NDArray[np.intp]  # [rows]
    frauds: NDArray[np.intp]  # [frauds] positions of the frauds
    ends: NDArray[np.intp]  # [frauds] position of the last row with the same score

    @classmethod
    def by(cls, score: NDArray[np.float64], customers: NDArray[np.intp], frauds: NDArray[np.bool_]) -> "_Ranked":
        order = np.argsort(-score, kind="stable")
        falling = -score[order]
        positions = np.flatnonzero(frauds[order])
        ends = np.searchsorted(falling, falling[positions], side="right") - 1
        return cls(customers[order], positions, ends)

    def average_precision(self, times: NDArray[np.float64]) -> float:
        """As scikit-learn defines it, with each customer's rows counted `times` [customers]; nan without a fraud."""
        weights = times[self.customers]
        of_frauds = weights[self.frauds]
        found = np.cumsum(of_frauds)
        # Frauds with the same score are found together.
        together = found[np.searchsorted(self.frauds, self.ends, side="right") - 1]
        looked_at = np.cumsum(weights)[self.ends]
        if not found[-1]:
            return float("nan")
        precision = np.divide(together, looked_at, out=np.zeros_like(together), where=looked_at > 0)
        return float(np.sum(of_frauds * precision) / found[-1])
