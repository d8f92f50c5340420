"""Every zoom puts the frame where it belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gui.view import Viewport, fit, visible_part

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
places = st.tuples(st.floats(0, 1), st.floats(0, 1))


@given(sizes, sizes, st.sampled_from([1.0, 1.5, 2.0]), st.floats(0.2, 8), places)
def test_zoomed_frame_leaves_no_gap_it_could_fill(frame, room, ratio, factor, place) -> None:
    camera = Viewport()
    at = place[0] * room[0], place[1] * room[1]
    camera.zoom_by(factor, at=at, frame_wh_px=frame, room_wh=room, ratio=ratio)
    placed = camera.place(frame, room, ratio)
    for origin, length, space in zip((placed.x0, placed.y0), frame, room, strict=True):
        size = length * placed.scale
        if size <= space:
            assert abs(origin - (space - size) / 2) <= 1
        else:
            assert origin <= 1 and origin + size >= space - 1


@given(sizes, sizes, st.floats(1, 8))
def test_visible_part_lies_in_the_frame_and_covers_the_view(frame, room, factor) -> None:
    camera = Viewport()
    middle = room[0] / 2, room[1] / 2
    camera.zoom_by(factor, at=middle, frame_wh_px=frame, room_wh=room, ratio=1.0)
    placed = camera.place(frame, room, 1.0)
    x0, y0, x1, y1 = visible_part(placed, frame, room)
    assert 0 <= x0 < x1 <= frame[0] and 0 <= y0 < y1 <= frame[1]
    left, top = placed.to_frame(0, 0)
    right, bottom = placed.to_frame(*room)
    assert x0 <= max(0, left) + 1e-6 and x1 >= min(frame[0], right) - 1e-6
    assert y0 <= max(0, top) + 1e-6 and y1 >= min(frame[1], bottom) - 1e-6


def test_one_to_one_means_device_pixels() -> None:
    camera = Viewport()
    camera.reset(1.0)
    assert camera.place((4000, 3000), (400, 300), 2.0).scale == 0.5


def test_zooming_out_ends_at_the_whole_frame_and_in_at_a_limit() -> None:
    camera = Viewport()
    where = {"at": (200.0, 150.0), "frame_wh_px": (4000, 3000), "room_wh": (400, 300)}
    camera.zoom_by(1e-6, **where, ratio=1.0)
    assert camera.place((4000, 3000), (400, 300), 1.0) == fit((4000, 3000), (400, 300))
    camera.zoom_by(1e9, **where, ratio=1.0)
    assert camera.zoom == 32.0


def test_panning_a_fitted_frame_moves_nothing() -> None:
    camera = Viewport()
    before = camera.place((400, 300), (400, 300), 1.0)
    camera.pan(50, 50, frame_wh_px=(400, 300), room_wh=(400, 300), ratio=1.0)
    after = camera.place((400, 300), (400, 300), 1.0)
    assert (after.x0, after.y0) == pytest.approx((before.x0, before.y0))
