"""Columns that every model computes from the fifteen inputs, before it learns and before it scores.

They say in one column what a tree would need many splits for: how unusual an amount is for its customer, how the
customer's habits change, how many frauds a terminal has seen. Each is one float32 operation, so that NumPy here and the
operators of an ONNX graph, which round alike, give the same bits and every row falls into the same leaf.
"""

import numpy as np
from numpy.typing import NDArray

from include.fraud.windows import FEATURES, WINDOWS_DAYS

LEAST_DENOMINATOR = 0.01
"""One cent, the smallest amount: a mean amount of zero gives a ratio of zero."""

RATIOS = (
    *(("tx_amount", f"customer_avg_amount_{days}d") for days in WINDOWS_DAYS),
    *((f"customer_{what}_{days}d", f"customer_{what}_30d") for what in ("avg_amount", "nb_tx") for days in (1, 7)),
)
PRODUCTS = tuple((f"terminal_nb_tx_{days}d", f"terminal_risk_{days}d") for days in WINDOWS_DAYS)


def positions(pairs: tuple[tuple[str, str], ...]) -> tuple[list[int], list[int]]:
    """Where the first and the second of each pair are among the inputs."""
    first, second = zip(*pairs, strict=True)
    return [FEATURES.index(name) for name in first], [FEATURES.index(name) for name in second]


def with_derived(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inputs [rows, 15] float32, then RATIOS, then PRODUCTS: [rows, 25] float32."""
    above, below = positions(RATIOS)
    one, other = positions(PRODUCTS)
    ratios = features[:, above] / np.maximum(features[:, below], np.float32(LEAST_DENOMINATOR))
    return np.hstack([features, ratios, features[:, one] * features[:, other]])
