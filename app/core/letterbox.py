"""Placement of a frame inside the network's input, and of boxes back in the frame.

Both axes are mapped by the ratio of the sizes really used (content/source), so the rounding of
the content size costs no accuracy, and pixels that are not square need nothing of their own on the
way back. Coordinates are continuous: pixel i spans [i, i + 1), which is
what half-pixel-centre resizing (cv2.INTER_LINEAR) does.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Resize = Literal["letterbox", "stretch", "crop"]
Align = Literal["top-left", "center"]

LONGEST = 16  # sides of a cropped frame to the input's


@dataclass(frozen=True)
class Placement:
    """The rectangle [x, x + w) × [y, y + h) of the network input that holds the whole frame.

    Where the frame is cropped, the rectangle is larger than the input, and x or y negative.
    """

    source_wh: tuple[int, int]
    input_wh: tuple[int, int]
    x: int
    y: int
    w: int
    h: int

    def to_source(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (..., 2) points from input pixels to source pixels, clipped to the frame."""
        mapped = self.unclipped(xy)
        np.maximum(mapped, 0, out=mapped)  # two ufuncs cost a third of np.clip on a few boxes
        return np.minimum(mapped, self._mapping[2], out=mapped)

    def unclipped(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same, of points that may lie outside of the frame."""
        offset, scale, _ = self._mapping
        mapped: NDArray[np.float32] = (xy - offset) * scale
        return mapped

    @cached_property
    def _mapping(self) -> tuple[NDArray[np.float32], ...]:
        """(offset, source pixels per input pixel, source size), each (2,)."""
        source = np.array(self.source_wh, np.float32)
        used = np.array((self.w, self.h), np.float32)
        return np.array((self.x, self.y), np.float32), source / used, source


def displayed(wh_px: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
    """(width, height) of the displayed shape, in whole numbers of any unit, for their ratio only.

    Raises ValueError where ``pixel_aspect`` is no positive number.
    """
    if pixel_aspect == 1.0:
        return wh_px
    if not 0 < pixel_aspect < float("inf"):
        raise ValueError(f"the pixel aspect must be a positive number, got {pixel_aspect}")
    ratio = Fraction(pixel_aspect).limit_denominator(10_000)
    return wh_px[0] * max(1, ratio.numerator), wh_px[1] * ratio.denominator


def needed(
    source_wh: tuple[int, int],
    input_wh: tuple[int, int],
    multiple: int,
    *,
    pixel_aspect: float = 1.0,
) -> tuple[int, int]:
    """How much of an input of ``input_wh`` the letterbox of a frame fills: (width, height).

    Multiples of ``multiple``, rounded up, so ``place`` gives the content the same size in there.
    ``pixel_aspect``: see ``place``.
    """
    (sw, sh), (iw, ih) = displayed(source_wh, pixel_aspect), input_wh
    wide = sw * ih >= sh * iw  # in whole numbers: a hair more would cost a row of cells
    w, h = (iw, -(-sh * iw // sw)) if wide else (-(-sw * ih // sh), ih)
    return min(iw, -(-w // multiple) * multiple), min(ih, -(-h // multiple) * multiple)


def place(
    source_wh: tuple[int, int],
    input_wh: tuple[int, int],
    *,
    resize: Resize = "letterbox",
    align: Align = "center",
    pixel_aspect: float = 1.0,
) -> Placement:
    """Placement of a frame of ``source_wh`` in an input of ``input_wh`` (both width, height).

    ``pixel_aspect``: width of a stored pixel over its height; a letterbox has the displayed shape.
    """
    (sw, sh), (iw, ih) = displayed(source_wh, pixel_aspect), input_wh
    if min(sw, sh, iw, ih) < 1:
        raise ValueError(f"sizes must be positive, got source {source_wh} and input {input_wh}")
    if resize == "stretch":
        return Placement(source_wh, input_wh, 0, 0, iw, ih)
    if resize == "crop":  # the middle of the frame fills the input
        ratio = max(iw / sw, ih / sh)
        # at most so much longer: beyond, a frame is squeezed, or it would take any memory
        w = min(max(iw, round(sw * ratio)), LONGEST * iw)
        h = min(max(ih, round(sh * ratio)), LONGEST * ih)
        return Placement(source_wh, input_wh, (iw - w) // 2, (ih - h) // 2, w, h)
    ratio = min(iw / sw, ih / sh)
    w = min(iw, max(1, round(sw * ratio)))
    h = min(ih, max(1, round(sh * ratio)))
    x, y = ((iw - w) // 2, (ih - h) // 2) if align == "center" else (0, 0)
    return Placement(source_wh, input_wh, x, y, w, h)
