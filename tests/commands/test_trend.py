"""The trend finds what grows, and nothing in what only wobbles."""

from __future__ import annotations

import numpy as np
import pytest

from app.commands.soak import trend

TIMES_S = np.arange(0, 3600, 6.0)


def test_a_slope_is_found_through_noise_and_wild_points() -> None:
    rng = np.random.default_rng(1)
    values = 100 + 0.01 * TIMES_S + rng.normal(0, 3, len(TIMES_S))
    values[rng.integers(0, len(values), 60)] += 500  # a tenth of the points is nonsense
    found = trend(TIMES_S.tolist(), values.tolist())
    assert found is not None
    assert found.low < 0.01 < found.high and found.slope == pytest.approx(0.01, abs=0.001)
    assert found.sure_growth > 25


def test_noise_without_a_slope_is_told_as_growth_rarely() -> None:
    """99 % confidence, two-sided: 1 in 200 seeds may be wrong on this side."""
    grown = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = trend(TIMES_S.tolist(), rng.normal(0, 1, len(TIMES_S)).tolist())
        assert found is not None
        grown += found.sure_growth > 0
    assert grown <= 6


def test_interval_is_as_in_a_worked_example() -> None:
    """Eight points on a line but for one: all but seven of 28 slopes are 1."""
    values = [float(i) for i in range(16)]
    values[14] = values[15] = 100.0  # the last block
    found = trend([float(i) for i in range(16)], values)
    assert found is not None and found.slope == 1.0 and found.low == 1.0 and found.high > 1.0


def test_flat_series_gaps_and_too_little() -> None:
    flat = trend(TIMES_S.tolist(), [5.0] * len(TIMES_S))
    assert flat is not None and (flat.slope, flat.low, flat.high, flat.level) == (0, 0, 0, 5)
    gaps = [float("nan") if i % 3 else i * 6.0 for i in range(len(TIMES_S))]
    found = trend(TIMES_S.tolist(), gaps)
    assert found is not None and found.slope == pytest.approx(1.0)
    assert trend([1.0, 2.0], [1.0, 2.0]) is None
    assert trend(TIMES_S.tolist(), [float("nan")] * len(TIMES_S)) is None
