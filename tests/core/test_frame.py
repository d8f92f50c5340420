"""A frame's planes and colours: by the definition, whatever the layout, matrix and range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.frame import BT601, Colour, Frame, PixelFormat, bgr_pixels, planes
from tests.colours import COLOURS, YUV_FORMATS, bgr_by_definition, packed, yuv_frame, yuv_of

EVEN = st.integers(1, 40).map(lambda n: 2 * n)


@given(st.sampled_from(YUV_FORMATS), st.sampled_from(COLOURS), EVEN, EVEN)
def test_bgr_is_the_definition(layout: PixelFormat, colour: Colour, w: int, h: int) -> None:
    frame = yuv_frame(layout, colour, (w, h))
    wanted = bgr_by_definition(frame)
    got = bgr_pixels(frame)
    assert (got.shape, got.dtype) == ((h, w, 3), np.uint8)
    if colour == BT601:  # OpenCV takes what is darker than black for black
        luma = frame.pixels[..., 0] if layout == "yuyv" else frame.pixels[:h]
        got, wanted = got[luma >= 16], wanted[luma >= 16]
    assert np.abs(got - wanted).max(initial=0) <= 1.6


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("layout", YUV_FORMATS)
def test_grays_and_saturated_colours_come_back(layout: PixelFormat, colour: Colour) -> None:
    ramp = np.repeat(np.arange(256)[:, None], 3, axis=1)
    corners = np.array([[b, g, r] for b in (0, 255) for g in (0, 255) for r in (0, 255)])
    bgr = np.concatenate([ramp, corners])[None].repeat(2, axis=1).repeat(2, axis=0)
    y, u, v = yuv_of(bgr, colour)
    frame = Frame(packed(y, u[::2, ::2], v[::2, ::2], layout), 0, 0, format=layout, colour=colour)
    assert np.abs(bgr_pixels(frame).astype(int) - bgr).max() <= 3  # of which YUV's rounding is 2


def test_planes_are_views() -> None:
    y, u, v = (np.full(shape, i, np.uint8) for i, shape in enumerate([(6, 8), (3, 4), (3, 4)]))
    i420 = Frame(packed(y, u, v, "i420"), 0, 0, format="i420")
    for plane, wanted in zip(planes(i420), (y, u, v), strict=True):
        assert np.array_equal(plane, wanted) and np.shares_memory(plane, i420.pixels)
    nv12 = Frame(packed(y, u, v, "nv12"), 0, 0, format="nv12")
    luma, pairs = planes(nv12)
    assert np.array_equal(luma, y) and np.array_equal(pairs, np.stack([u, v], -1))
    assert np.shares_memory(pairs, nv12.pixels)


def test_bgr_is_made_once() -> None:
    frame = yuv_frame("i420", Colour("bt709"), (64, 48))
    assert bgr_pixels(frame) is bgr_pixels(frame)
