"""Is one score really better than another, or was it luck? A paired bootstrap over customers.

Transactions of one customer are not independent, so customers are drawn, with all their rows; both scores are measured
on the same draw, so what they have in common cancels out.
Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 (percentile interval), 16.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """Average precision of the challenger minus the champion's: on all rows, and the interval over the resamples."""

    estimate: float
    low: float
    high: float


def paired_bootstrap(
    customer: ArrayLike, fraud: ArrayLike, champion: ArrayLike, challenger: ArrayLike, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two scores of the same rows; all four have the shape [rows]. Seeded: the same input, the same answer."""
    names, customers = np.unique(np.asarray(customer), return_inverse=True)
    frauds = np.asarray(fraud).astype(bool)
    ranked = [_Ranked.by(np.asarray(score, dtype=np.float64), customers, frauds) for score in (champion, challenger)]
    everyone = np.ones((len(names), 1))
    estimate = (ranked[1].average_precision(everyone) - ranked[0].average_precision(everyone)).item()
    draw = np.random.default_rng(SEED)
    times = np.empty((len(names), resamples))
    for number in range(resamples):
        times[:, number] = np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names))
    differences = ranked[1].average_precision(times) - ranked[0].average_precision(times)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(differences, (tail, 1 - tail))
    return Comparison(estimate, float(low), float(high))


@dataclass(frozen=True)
class _Ranked:
    """How many rows, and frauds, each customer has in each stretch of the ranking, so that a resample needs no sorting.

    A stretch ends with the last row whose score is that of a fraud: precision counts at these places only.
    """

    rows: csr_array  # [stretches, customers]
    frauds: csr_array  # [stretches, customers]

    @classmethod
    def by(cls, score: NDArray[np.float64], customers: NDArray[np.intp], frauds: NDArray[np.bool_]) -> "_Ranked":
        ends = np.unique(-score[frauds])  # from the highest score down
        stretch = np.searchsorted(ends, -score)
        shape = (len(ends), int(customers.max()) + 1)

        def count(which: NDArray[np.bool_]) -> csr_array:
            return csr_array((np.ones(which.sum()), (stretch[which], customers[which])), shape=shape)

        return cls(count(stretch < len(ends)), count(frauds))

    def average_precision(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """As scikit-learn defines it [resamples], with each customer's rows counted `times` [customers, resamples].

        It is nan where no fraud was drawn.
        """
        of_frauds = self.frauds @ times
        found, looked_at = np.cumsum(of_frauds, axis=0), np.cumsum(self.rows @ times, axis=0)
        precision = np.divide(found, looked_at, out=np.zeros_like(found), where=looked_at > 0)
        weighted, total = np.sum(of_frauds * precision, axis=0), of_frauds.sum(axis=0)
        return np.divide(weighted, total, out=np.full_like(total, np.nan), where=total > 0)
