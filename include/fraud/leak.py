"""Refuses an input that gives the label away: the model would look perfect and know nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from include.command import Refused

TOO_GOOD = 0.99


def refuse_leaks(features: NDArray[np.floating], fraud: NDArray[np.integer], names: Sequence[str]) -> None:
    """Raise Refused when one column of features [rows, inputs], on its own, ranks the frauds [rows] almost perfectly.

    A column is measured in both directions: one that is low for every fraud gives the label away as well.
    """
    for number, name in enumerate(names):
        column = features[:, number]
        auc = float(roc_auc_score(fraud, column))
        precision = max(float(average_precision_score(fraud, side)) for side in (column, -column))
        if max(auc, 1 - auc, precision) >= TOO_GOOD:
            raise Refused(
                f"the input {name!r} alone ranks the frauds with AUC {max(auc, 1 - auc):.3f} and average precision "
                f"{precision:.3f}; {TOO_GOOD} or more means that it contains the label: take it out of the features"
            )
