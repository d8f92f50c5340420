"""Placement of a frame in the view: fitted, zoomed and panned."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from app.gui.view import Viewing, Viewport

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
places = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(sizes, sizes, st.sampled_from([1.0, 1.5, 2.0]), st.floats(0.2, 8), places)
def test_zoomed_frame_leaves_no_gap_it_could_fill(frame, room, ratio, factor, place) -> None:
    camera, seen = Viewport(), Viewing(frame, room, ratio)
    camera.zoom_by(factor, seen, at=(place[0] * room[0], place[1] * room[1]))
    placed = camera.place(seen)
    for origin, length, space in zip((placed.x0, placed.y0), frame, room, strict=True):
        size = length * placed.scale
        if size <= space:
            assert abs(origin - (space - size) / 2) <= 1
        else:
            assert origin <= 1 and origin + size >= space - 1


@given(sizes, sizes, st.floats(1, 8))
def test_visible_part_lies_in_the_frame_and_covers_the_view(frame, room, factor) -> None:
    camera, seen = Viewport(), Viewing(frame, room)
    camera.zoom_by(factor, seen, at=(room[0] / 2, room[1] / 2))
    placed = camera.place(seen)
    x0, y0, x1, y1 = seen.visible_part(placed)
    assert 0 <= x0 < x1 <= frame[0] and 0 <= y0 < y1 <= frame[1]
    left, top = placed.to_frame(0, 0)
    right, bottom = placed.to_frame(*room)
    assert x0 <= max(0, left) + 1e-6 and x1 >= min(frame[0], right) - 1e-6
    assert y0 <= max(0, top) + 1e-6 and y1 >= min(frame[1], bottom) - 1e-6


def test_one_to_one_means_device_pixels() -> None:
    camera = Viewport()
    camera.reset(1.0)
    assert camera.place(Viewing((4000, 3000), (400, 300), 2.0)).scale == 0.5


def test_zooming_out_ends_at_the_whole_frame_and_in_at_a_limit() -> None:
    camera, seen = Viewport(), Viewing((4000, 3000), (400, 300))
    camera.zoom_by(1e-6, seen, at=(200.0, 150.0))
    assert camera.place(seen) == seen.fit()
    camera.zoom_by(1e9, seen, at=(200.0, 150.0))
    assert camera.zoom == 32.0


def test_panning_a_fitted_frame_moves_nothing() -> None:
    camera, seen = Viewport(), Viewing((400, 300), (400, 300))
    before = camera.place(seen)
    camera.pan(50, 50, seen=seen)
    after = camera.place(seen)
    assert (after.x0, after.y0) == pytest.approx((before.x0, before.y0))
