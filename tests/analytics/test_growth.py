"""Long runs and floods of boxes stay within bounds. In full: scripts/measure_tracking_cost.py."""

from __future__ import annotations

from app.config import TrackOptions
from scripts.measure_tracking_cost import RATE, crowd, growth, has_grown, spurious

FRAMES = 30 * RATE


def test_objects_that_come_and_go_leave_nothing_behind() -> None:
    told = growth(crowd(FRAMES, 8, visits=True), frames=FRAMES, marks=3)
    assert told["ids"] >= 2 * 8, "every visit is another track"
    assert told["most_tracks"] < 40
    assert not has_grown(told["held_kb"]), told["held_kb"]


def test_a_flood_of_spurious_boxes_stays_within_the_bounds() -> None:
    frames = RATE // 2
    told = growth(spurious(frames, 10_000), frames=frames, marks=3)
    options = TrackOptions()
    assert told["most_tracks"] <= options.most_tracks
    assert told["counts"]["boxes_over"] >= frames * (10_000 - options.most_boxes) * 0.5
    assert told["counts"]["tracks_over"] > 0
    assert not has_grown(told["held_kb"]), told["held_kb"]
