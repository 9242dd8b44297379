"""Latencies as figures and as curves, from an HDR histogram: three significant digits from 1 us to an hour."""

from collections.abc import Sequence

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from numpy.typing import NDArray

LOWEST_US, HIGHEST_US, DIGITS = 1, 3_600_000_000, 3
CURVE = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)


class Latency:
    """Nothing is averaged or left out: a figure of a latency that is not one of a message is not to be had."""

    def __init__(self, nanoseconds: NDArray[np.int64]) -> None:
        self._histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        microseconds = np.clip(nanoseconds // 1000, LOWEST_US, HIGHEST_US)
        for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
            self._histogram.record_value(int(value), int(count))

    def figures(self) -> dict[str, float | None]:
        """Median, 99th percentile and maximum, in milliseconds; None without any message."""
        return {"p50": self._at(50), "p99": self._at(99), "max": self._at(100)}

    def curve(self, percentiles: Sequence[float] = CURVE) -> list[list[float]]:
        """[[percentile, milliseconds], ...] for a chart; empty without any message."""
        known = ((percentile, self._at(percentile)) for percentile in percentiles)
        return [[percentile, value] for percentile, value in known if value is not None]

    def _at(self, percentile: float) -> float | None:
        if not self._histogram.get_total_count():
            return None
        return float(self._histogram.get_value_at_percentile(percentile)) / 1000
