"""What a run measures: bounded, and honest when there is nothing to measure."""

from __future__ import annotations

import math
import threading
from statistics import median

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.stats import FOLDED, Meter, Rate, RecentValues, percentiles

SECOND = 1_000_000_000


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_percentiles_are_those_of_the_latest_values(values: list[float], size: int) -> None:
    recent = RecentValues(size)
    for value in values:
        recent.add(value)
    latest = values[-size:]
    lowest, middle, highest = percentiles(recent.values(), 0, 50, 100)
    assert lowest == min(latest) and highest == max(latest)
    assert middle == pytest.approx(median(latest))


def test_no_values_give_no_percentiles() -> None:
    assert all(math.isnan(v) for v in percentiles(RecentValues().values(), 50, 95, 99))


def test_a_rate_is_intervals_over_span() -> None:
    rate = Rate()
    for i in range(31):
        rate.tick(i * SECOND // 10)
    assert rate.recent(3 * SECOND) == pytest.approx(10)
    assert rate.overall() == pytest.approx(10)


def test_a_rate_is_zero_when_stale_and_before_two_events() -> None:
    rate = Rate()
    assert rate.recent(0) == 0 == rate.overall()
    rate.tick(0)
    assert rate.recent(0) == 0 == rate.overall()
    rate.tick(SECOND)
    assert rate.recent(SECOND) == 1
    assert rate.recent(10 * SECOND) == 0


def test_a_rate_follows_within_seconds_and_counts_what_was_left_out() -> None:
    captured = Rate()
    for i in range(100):
        captured.tick(i * SECOND // 20)
    for i in range(5, 14):  # at rest: one frame a second is given, 19 are left out before it
        captured.tick(i * SECOND, 20)
    assert captured.recent(13 * SECOND) == pytest.approx(20)
    processed = Rate()
    for i in range(100):
        processed.tick(i * SECOND // 20)
    for i in range(5, 14):
        processed.tick(i * SECOND)
    assert processed.recent(13 * SECOND) == pytest.approx(1)
    slow = Rate()
    for i in range(4):
        slow.tick(i * 10 * SECOND)
    assert slow.recent(40 * SECOND) == pytest.approx(0.1)
    assert slow.recent(46 * SECOND) == 0


def test_a_snapshot_before_the_first_frame() -> None:
    stats = Meter().snapshot()
    assert stats.captured == stats.processed == 0 and stats.fps == 0
    assert all(math.isnan(v) for v in stats.age_ms)


def test_drops_are_counted_by_reason() -> None:
    meter = Meter()
    for reason in ("replaced", "stale", "replaced"):
        meter.dropped(reason)
    assert meter.snapshot().dropped == {"replaced": 2, "stale": 1}


def test_percentiles_are_computed_while_the_pipeline_goes_on(monkeypatch) -> None:
    meter = Meter()
    meter.processed(5_000_000, {"infer": 3_000_000})
    plain, blocked = np.percentile, []

    def percentile(*arguments):
        other = threading.Thread(target=meter.dropped, args=("stale",), daemon=True)
        other.start()
        other.join(1.0)
        blocked.append(other.is_alive())
        return plain(*arguments)

    monkeypatch.setattr(np, "percentile", percentile)
    stats = meter.snapshot()
    assert blocked == [False, False]
    assert stats.age_ms == (5.0, 5.0, 5.0) and stats.stages_ms == {"infer": (3.0, 3.0, 3.0)}
    assert not stats.dropped  # all of one moment


def test_counts_are_the_snapshot_without_percentiles() -> None:
    meter = Meter()
    meter.captured(1)
    meter.processed(5_000_000, {"network": 1_000_000})
    meter.dropped("stale")
    counts, whole = meter.counts(), meter.snapshot()
    assert (counts.captured, counts.processed, counts.dropped) == (1, 1, {"stale": 1})
    assert counts.stages_ms == {} and whole.stages_ms["network"][0] == 1.0


@pytest.mark.parametrize("frames", [1, FOLDED - 1, FOLDED, 3 * FOLDED + 1])
def test_a_snapshot_has_every_stage_of_every_frame(frames: int) -> None:
    meter = Meter()
    for i in range(frames):
        meter.processed(0, {"network": (i + 1) * 1_000_000})
        meter.emitted(2_000_000)
    stages = meter.snapshot().stages_ms
    assert stages["network"][0] == pytest.approx((frames + 1) / 2)
    assert stages["sinks"] == pytest.approx((2, 2, 2))
