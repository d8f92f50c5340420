"""Does a series of measurements grow, and how sure is that?

Theil–Sen slope (the median of the slopes between all pairs: a third of the points may be wild) with
Sen's interval, which follows from the distribution of Kendall's S: P. K. Sen, "Estimates of the
regression coefficient based on Kendall's tau", JASA 63 (1968). Neighbouring samples are not
independent, so they are first put together in blocks, of which the medians count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCKS = 30
FEWEST_BLOCKS = 8
Z_99 = 2.576  # two-sided 99 %


@dataclass(frozen=True, slots=True)
class Trend:
    """Slopes are per second; ``low`` and ``high`` bound it with 99 % confidence."""

    slope: float
    low: float
    high: float
    span_s: float
    level: float  # the median

    @property
    def sure_growth(self) -> float:
        """How much it grew at least, over the whole span."""
        return self.low * self.span_s


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """None where there is too little to judge."""
    times, series = np.asarray(times_s, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(series)
    times, series = times[known], series[known]
    count = min(BLOCKS, len(series) // 2)
    if count < FEWEST_BLOCKS:
        return None
    x = np.array([np.median(block) for block in np.array_split(times, count)])
    y = np.array([np.median(block) for block in np.array_split(series, count)])
    slopes = _pair_slopes(x, y)
    total = len(slopes)
    reach = Z_99 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low, high = round((total - reach) / 2), round((total + reach) / 2)
    return Trend(
        slope=float(np.median(slopes)),
        low=float(slopes[max(0, low)]),
        high=float(slopes[min(total - 1, high)]),
        span_s=float(times[-1] - times[0]),
        level=float(np.median(series)),
    )


def _pair_slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    i, j = np.triu_indices(len(x), 1)
    slopes: NDArray[np.float64] = np.sort((y[j] - y[i]) / (x[j] - x[i]))
    return slopes
