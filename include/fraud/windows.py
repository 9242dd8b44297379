"""The model's fifteen inputs, defined once for training (whole frames) and serving (a few transactions at a time).

For a transaction at time t, with w of 1, 7 and 30 days:
  customer windows  (t - w, t]: the customer's transactions, this one included; their number and mean amount
  terminal windows  (t - 7 d - w, t - 7 d]: the terminal's transactions whose labels have arrived; their number and the
                    share of fraud among them, 0 when there are none; a label that is not known counts as genuine
Of transactions at the same millisecond the one with the smaller id comes first, and a later one is not in its windows.
Source of the inputs: "Reproducible Machine Learning for Credit Card Fraud Detection" (Le Borgne et al., 2022),
chapter 3, "Baseline feature transformation".

The functions take *keys*: times in milliseconds, plus an offset for each customer or terminal that keeps the
events of one out of reach of the next one's windows. Only numpy is needed here: the image that serves has no more.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WINDOWS_DAYS = (1, 7, 30)
LABEL_DELAY_DAYS = 7
"""The label of a transaction of day T is known on day T + 7."""

HISTORY_DAYS = LABEL_DELAY_DAYS + max(WINDOWS_DAYS)
"""How far back before a transaction its windows reach."""

NIGHT_ENDS_HOUR = 6  # the hour from 6:00 to 6:59 is still night

CALENDAR_INPUTS = ("tx_amount", "tx_during_weekend", "tx_during_night")
CUSTOMER_INPUTS = tuple(f"customer_{what}_{w}d" for w in WINDOWS_DAYS for what in ("nb_tx", "avg_amount"))
TERMINAL_INPUTS = tuple(f"terminal_{what}_{w}d" for w in WINDOWS_DAYS for what in ("nb_tx", "risk"))
FEATURES: tuple[str, ...] = (*CALENDAR_INPUTS, *CUSTOMER_INPUTS, *TERMINAL_INPUTS)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def calendar_inputs(times: Ints, cents: Ints) -> list[Floats]:
    """The inputs that need no history (CALENDAR_INPUTS), each [n]; `times` in ms since 1970 UTC, amounts in cents."""
    day, within = np.divmod(times, DAY_MS)
    weekend = (day + 3) % 7 >= 5  # 1970-01-01 was a Thursday, the fourth day of a week that starts on Monday
    return [cents / 100, weekend.astype(np.float64), (within < (NIGHT_ENDS_HOUR + 1) * HOUR_MS).astype(np.float64)]


def customer_inputs(keys: Ints, cents: Ints, at: Ints) -> Iterator[Floats]:
    """Yield CUSTOMER_INPUTS, each [q], of the events at positions `at` [q]; `keys` [n] in order, their `cents` [n]."""
    for count, mean_cents in _windows(keys, cents, keys[at], at + 1, 0):
        yield count
        yield mean_cents / 100


def terminal_inputs(keys: Ints, frauds: Ints, queries: Ints) -> Iterator[Floats]:
    """Yield TERMINAL_INPUTS, each [q], at keys `queries` [q]; `keys` [n] in order, `frauds` [n] 1 for known fraud."""
    delay = LABEL_DELAY_DAYS * DAY_MS
    ends = np.searchsorted(keys, queries - delay, side="right")
    for count, share in _windows(keys, frauds, queries, ends, delay):
        yield count
        yield share


def _windows(keys: Ints, values: Ints, queries: Ints, ends: Ints, delay: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield for each of WINDOWS_DAYS the number of events from (query - delay - window) on and their mean value.

    `ends` [q] is the position after the windows' last event. Sums are of integers, and so exact.
    """
    totals = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=totals[1:])
    until_end = totals[ends]
    for window in WINDOWS_DAYS:
        starts = np.searchsorted(keys, queries - (delay + window * DAY_MS), side="right")
        count = (ends - starts).astype(np.float64)
        yield count, (until_end - totals[starts]) / np.maximum(count, 1.0)
