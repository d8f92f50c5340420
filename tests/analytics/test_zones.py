"""Zones and lines: counts do not change because boxes flicker, jitter or double."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from app.analytics.analytics import AnalyticsOptions
from app.analytics.zones import Line, Mask, Zone

from .kit import Box, Told, person, run

ZONE = Zone(name="door", points=((0.4, 0.5), (0.6, 0.5), (0.6, 1.0), (0.4, 1.0)))
LINE = Line(name="mid", points=((0.5, 1.0), (0.5, 0.0)))  # upwards: "in" is to the right
OPTIONS = AnalyticsOptions(zones=(ZONE,), lines=(LINE,))
SECONDS, RATE = 6, 30


def through(direction: int = 1) -> list[tuple[float, list[Box]]]:
    """One walks through the zone and over the line, 512 to 768 of 1280 px wide, in 6 s."""
    x = [100 + 1080 * i / (SECONDS * RATE) for i in range(SECONDS * RATE)]
    return [(i / RATE, [person(v if direction > 0 else 1280 - v, 650)]) for i, v in enumerate(x)]


def counts(told: Told) -> list[tuple[str, str | None, str | None]]:
    kinds = ("appear", "enter", "leave", "cross", "gone")
    return [(e.type, e.zone or e.line, e.direction) for e in told.of(*kinds)]


TRUTH = [
    ("appear", None, None),
    ("enter", "door", None),
    ("cross", "mid", "in"),
    ("leave", "door", None),
    ("gone", None, None),
]


def test_one_who_walks_through() -> None:
    told = run(OPTIONS, through())
    assert counts(told) == TRUTH
    (leave,) = told.of("leave")
    assert leave.duration_s == pytest.approx(256 / 180, abs=0.1)  # 180 px/s
    (cross,) = run(OPTIONS, through(-1)).of("cross")
    assert cross.direction == "out"
    assert told.analytics.counts()["lines"]["mid"] == {"in": {"person": 1}, "out": {}}


@given(first=st.floats(0.3, 4.5), length=st.floats(0.03, 1.0))
@settings(deadline=None, max_examples=12)
def test_a_box_that_vanishes_for_up_to_a_second_changes_no_count(
    first: float, length: float
) -> None:
    frames = [(t, [] if first < t < first + length else boxes) for t, boxes in through()]
    assert counts(run(OPTIONS, frames)) == TRUTH


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=12)
def test_a_box_that_jitters_by_5_percent_changes_no_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames: list[tuple[float, list[Box]]] = []
    for t, boxes in through():
        size = 200 * np.sqrt(0.4)
        shaken = np.array(boxes[0][:4]) + rng.uniform(-0.05, 0.05, 4) * size
        frames.append((t, [(*map(float, shaken), 0.85, 0)]))  # type: ignore[list-item]
    assert counts(run(OPTIONS, frames)) == TRUTH


@given(st.integers(0, 10_000), st.sampled_from(["zone", "line"]))
@settings(deadline=None, max_examples=12)
def test_jitter_on_the_very_border_counts_at_most_once(seed: int, at: str) -> None:
    rng = np.random.default_rng(seed)
    x = 512 if at == "zone" else 640
    frames = [
        (i / RATE, [person(x + rng.uniform(-8, 8), 650 + rng.uniform(-8, 8))]) for i in range(180)
    ]
    told = run(OPTIONS, frames)
    assert len(told.of("enter")) <= 1 and len(told.of("enter")) == len(told.of("leave"))
    assert not told.of("cross")


@given(st.integers(10, 170), st.floats(-0.2, 0.2))
@settings(deadline=None, max_examples=12)
def test_a_box_that_doubles_for_a_frame_changes_no_count(frame: int, shift: float) -> None:
    frames = through()
    x1, y1, x2, y2, score, kind = frames[frame][1][0]
    off = shift * (x2 - x1)
    frames[frame][1].append((x1 + off, y1 + off, x2 + off, y2, score - 0.05, kind))
    assert counts(run(OPTIONS, frames)) == TRUTH


@given(st.integers(0, 10_000), st.floats(0.1, 0.7))
@settings(deadline=None, max_examples=12)
def test_dropped_frames_change_no_count(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    frames = [frame for frame in through() if rng.random() >= share]
    assert counts(run(OPTIONS, frames)) == TRUTH


def test_there_and_back_counts_both_ways() -> None:
    there = through()
    back = [(t + SECONDS, boxes) for t, boxes in through(-1)]
    told = run(OPTIONS, [*there, *back])
    assert [e.direction for e in told.of("cross")] == ["in", "out"]
    assert len(told.of("enter")) == len(told.of("leave")) == 2


def test_who_passes_the_end_of_a_line_does_not_cross_it() -> None:
    short = Line(name="short", points=((0.5, 0.6), (0.5, 0.3)))
    told = run(AnalyticsOptions(lines=(short,)), through())  # feet at 0.9 of the height
    assert not told.of("cross")


def test_feet_at_the_edge_of_the_frame_are_inside_a_zone_that_reaches_it() -> None:
    frames = [(i / RATE, [person(640, 720)]) for i in range(60)]
    told = run(OPTIONS, frames)
    assert len(told.of("enter")) == 1
    assert told.ids[-1] == [1]


def test_dwell_count_and_occupancy() -> None:
    zone = Zone(name="door", points=ZONE.points, dwell_s=(2.0, 1.0), count=(2,))
    frames = [
        (i / RATE, [person(560, 650)] + ([person(700, 650)] if i > 60 else []))
        for i in range(SECONDS * RATE)
    ]
    told = run(AnalyticsOptions(zones=(zone,)), frames)
    first = [e.duration_s for e in told.of("dwell") if e.track_id == 1]
    assert first == pytest.approx([1.0, 2.0], abs=0.05)
    assert [(e.count, e.direction) for e in told.of("count")] == [(2, "up")]


def test_speed_from_a_declared_distance() -> None:
    zone = Zone(name="door", points=ZONE.points, distance_m=5.0)
    (leave,) = run(AnalyticsOptions(zones=(zone,)), through()).of("leave")
    assert leave.speed_kmh == pytest.approx(5 / (256 / 180) * 3.6, rel=0.03)


def test_classes_scores_and_sizes_decide_who_counts() -> None:
    for other in (
        {"labels": ("car",)},
        {"min_score": 0.9},
        {"min_size": (0.5, 0.5)},
    ):
        zone = Zone(name="door", points=ZONE.points, **other)  # type: ignore[arg-type]
        line = Line(name="mid", points=LINE.points, **other)  # type: ignore[arg-type]
        told = run(AnalyticsOptions(zones=(zone,), lines=(line,)), through())
        assert not told.of("enter", "cross") and told.of("appear")


def test_masks_hide_and_pixels_are_as_good_as_parts() -> None:
    all_of_it = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    hidden = AnalyticsOptions(masks=(Mask(name="tv", points=all_of_it),))
    assert not run(hidden, through()).of("appear")
    left = ((0.0, 0.0), (400.0, 0.0), (400.0, 720.0), (0.0, 720.0))
    only = Mask(name="left", points=left, units="pixels", exclude=False)
    told = run(AnalyticsOptions(masks=(only,)), through())
    assert len(told.of("appear")) == 1
    (gone,) = told.of("gone")
    assert gone.box is not None and (gone.box[0] + gone.box[2]) / 2 <= 401
