"""Masks are written as COCO's tools write and read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from app.core.masks import ObjectMask, pack_runs, runs_overlap, unpack_runs

Array = np.ndarray[Any, Any]


def mask_of(pixels: Array, x: int = 0, y: int = 0) -> ObjectMask:
    """A mask whose field has just these pixels."""
    height, width = pixels.shape
    field = np.where(pixels, 1, -1).astype(np.float32)
    return ObjectMask(x, y, width, height, field, (1, 0, 1, 0))


def in_frame(mask: ObjectMask, wh: tuple[int, int]) -> Array:
    whole = np.zeros(wh[::-1], bool)
    whole[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] = mask.pixels()
    return whole


@st.composite
def placed(draw: st.DrawFn) -> tuple[ObjectMask, tuple[int, int]]:
    """Any mask in any place of a frame, also at its edges and over all of it."""
    w, h = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    left, top, right, bottom = (draw(st.integers(0, 4)) for _ in range(4))
    bits = draw(st.lists(st.booleans(), min_size=w * h, max_size=w * h))
    pixels = np.array(bits, bool).reshape(h, w)
    return mask_of(pixels, left, top), (left + w + right, top + h + bottom)


@given(placed())
def test_run_lengths_are_those_of_cocos_own_tools(made: tuple[ObjectMask, tuple[int, int]]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask, wh = made
    whole = in_frame(mask, wh)
    wanted = coco.encode(np.asfortranarray(whole.astype(np.uint8)))
    counts = mask.runs(wh)
    text = pack_runs(counts)
    assert text == wanted["counts"].decode()
    assert unpack_runs(text) == counts.tolist()
    assert counts.sum() == wh[0] * wh[1]


@given(st.lists(st.integers(0, 40_000_000), min_size=1, max_size=12))
def test_any_counts_come_back(counts: list[int]) -> None:
    assert unpack_runs(pack_runs(np.array(counts))) == counts


@pytest.mark.parametrize("text", ["é", " ", "oooooooooooooooooooo"])
def test_what_is_no_text_of_counts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        unpack_runs(text)


def test_overlap_of_run_lengths() -> None:
    assert runs_overlap([2, 4, 4], [4, 4, 2]) == pytest.approx(2 / 6)
    assert runs_overlap([10], [10]) == 1
    assert runs_overlap([10], [12]) == 0  # frames of different sizes


@pytest.mark.parametrize("shape", ["disc", "box", "two parts"])
def test_outlines_run_along_the_edges_of_the_pixels(shape: str) -> None:
    """Their area is that of the pixels, measured by the shoelace formula."""
    y, x = np.mgrid[:80, :100]
    pixels = {
        "disc": (x - 50) ** 2 + (y - 40) ** 2 < 35**2,
        "box": (x >= 10) & (x < 60) & (y >= 5) & (y < 70),
        "two parts": (x < 30) | (x > 70) & (y > 40),
    }[shape]
    mask = mask_of(pixels, 7, 9)
    area = 0.0
    for px, py in (each.astype(float).T for each in mask.outlines):
        area += abs(float(px @ np.roll(py, 1) - py @ np.roll(px, 1))) / 2
        assert px.min() >= 7 and px.max() <= 107 and py.min() >= 9 and py.max() <= 89
    assert area == pytest.approx(pixels.sum(), rel=0.01)
    if shape == "box":
        assert sorted(map(tuple, mask.outlines[0].tolist())) == [
            (17, 14), (17, 79), (67, 14), (67, 79),
        ]  # fmt: skip
