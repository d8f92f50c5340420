"""Letterbox geometry: boxes come back to where they were, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.letterbox import Align, Resize, needed, place

SIDES = st.integers(1, 5000)
SIZES = st.tuples(SIDES, SIDES)
RESIZES = st.sampled_from(["letterbox", "stretch"])
ALIGNS = st.sampled_from(["center", "top-left"])


@given(SIZES, SIZES, RESIZES, ALIGNS)
def test_the_frame_lies_inside_the_input(
    source: tuple[int, int], size: tuple[int, int], resize: Resize, align: Align
) -> None:
    p = place(source, size, resize=resize, align=align)
    assert p.w >= 1 and p.h >= 1
    assert 0 <= p.x <= p.x + p.w <= size[0]
    assert 0 <= p.y <= p.y + p.h <= size[1]
    assert p.w == size[0] or p.h == size[1], "one side is filled"


@given(SIZES, SIZES, RESIZES, ALIGNS)
def test_there_and_back_is_where_it_was(
    source: tuple[int, int], size: tuple[int, int], resize: Resize, align: Align
) -> None:
    p = place(source, size, resize=resize, align=align)
    corners = np.array([[0, 0], source, [source[0] / 3, source[1] / 7]], np.float32)
    there = corners / np.array(source) * (p.w, p.h) + (p.x, p.y)
    back = p.to_source(there.astype(np.float32))
    np.testing.assert_allclose(back, corners, rtol=1e-4, atol=1e-3 * max(source))


@given(SIZES, SIZES)
def test_letterbox_keeps_the_aspect_to_within_a_pixel(
    source: tuple[int, int], size: tuple[int, int]
) -> None:
    p = place(source, size)
    ratio = min(size[0] / source[0], size[1] / source[1])
    assert abs(p.w - max(1, source[0] * ratio)) <= 0.5 + 1e-6
    assert abs(p.h - max(1, source[1] * ratio)) <= 0.5 + 1e-6


@given(
    SIZES, st.tuples(st.integers(1, 20), st.integers(1, 20)), st.sampled_from([8, 32, 64]), ALIGNS
)
def test_what_a_frame_needs_holds_it_as_the_whole_input_would(
    source: tuple[int, int], units: tuple[int, int], multiple: int, align: Align
) -> None:
    whole = (units[0] * multiple, units[1] * multiple)
    cut = needed(source, whole, multiple)
    assert all(n % multiple == 0 and 0 < n <= w for n, w in zip(cut, whole, strict=True))
    here, there = (place(source, size, align=align) for size in (cut, whole))
    assert (here.w, here.h) == (there.w, there.h)
    assert cut[0] - here.w < multiple + 1 and cut[1] - here.h < multiple + 1, "not a cell too much"


def test_known_needs() -> None:
    assert needed((768, 432), (320, 320), 32) == (320, 192)
    assert needed((1080, 1920), (320, 320), 32) == (192, 320)
    assert needed((640, 480), (320, 320), 32) == (320, 256)
    assert needed((500, 500), (320, 320), 32) == (320, 320)
    assert needed((8000, 1), (320, 320), 32) == (320, 32)


def test_points_outside_the_frame_are_clipped_to_it() -> None:
    p = place((100, 50), (320, 320))
    got = p.to_source(np.array([[-50, -50], [1000, 1000]], np.float32))
    assert got.tolist() == [[0, 0], [100, 50]]


def test_known_placements() -> None:
    top_left = place((768, 432), (416, 416), align="top-left")
    assert (top_left.x, top_left.y, top_left.w, top_left.h) == (0, 0, 416, 234)
    centred = place((768, 432), (416, 416), align="center")
    assert (centred.x, centred.y, centred.w, centred.h) == (0, 91, 416, 234)


ASPECTS = st.sampled_from([1.0, 2.0, 0.5, 16 / 11, 64 / 45, 10 / 11])


@given(SIZES, SIZES, ASPECTS, ALIGNS)
def test_a_letterbox_has_the_displayed_shape(
    source: tuple[int, int], size: tuple[int, int], aspect: float, align: Align
) -> None:
    p = place(source, size, align=align, pixel_aspect=aspect)
    shown = source[0] * aspect, source[1]
    ratio = min(size[0] / shown[0], size[1] / shown[1])
    assert abs(p.w - max(1, shown[0] * ratio)) <= 0.5 + 1e-3
    assert abs(p.h - max(1, shown[1] * ratio)) <= 0.5 + 1e-3
    far = p.to_source(np.array([[p.x + p.w, p.y + p.h]], np.float32))
    np.testing.assert_allclose(far[0], source, rtol=1e-5)


def test_anamorphic_pixels_are_as_square_ones() -> None:
    wide = place((320, 360), (320, 192), pixel_aspect=2.0)
    assert (wide.w, wide.h) == (320, 180)
    assert needed((320, 360), (320, 320), 32, pixel_aspect=2.0) == (320, 192)
    middle = wide.to_source(np.array([[wide.x + 160, wide.y + 90]], np.float32))
    assert middle.tolist() == [[160, 180]], "in stored pixels"
    stretched = place((320, 360), (320, 320), resize="stretch", pixel_aspect=2.0)
    assert (stretched.w, stretched.h) == (320, 320)


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan"), float("inf")])
def test_a_pixel_aspect_that_is_none_is_refused(aspect: float) -> None:
    with pytest.raises(ValueError, match="pixel aspect"):
        place((320, 360), (320, 320), pixel_aspect=aspect)


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        place((0, 10), (320, 320))
