"""Masks of objects in source pixels: kept coarse, made fine where they are used.

A network computes masks at a quarter of its input's size. They stay so until somebody draws or
writes them: hundreds of them at a camera's size would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MaskForm = Literal["rle", "polygon", "none"]  # how masks are written
SIMPLER_PX = 0.6  # outlines leave out what lies closer to them: the steps of a slanting edge


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """Which pixels of a detection's box are the object's.

    ``x``, ``y``, ``width``, ``height``: the pixels of the frame whose centres lie in the box.
    ``field`` (h, w) float32 is above 0 inside of the object; column i of the mask lies at
    ``ax`` i + ``bx`` of it, row j at ``ay`` j + ``by``. ``outlined``: it is written as outlines.
    """

    x: int
    y: int
    width: int
    height: int
    field: NDArray[np.float32]
    to_field: tuple[float, float, float, float]  # ax, bx, ay, by
    outlined: bool = False

    def pixels(self) -> NDArray[np.bool_]:
        """(height, width): those of the object, by linear interpolation of the field."""
        import cv2

        ax, bx, ay, by = self.to_field
        matrix = np.array([[ax, 0, bx], [0, ay, by]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size, edge = (self.width, self.height), cv2.BORDER_REPLICATE
        fine = cv2.warpAffine(self.field, matrix, size, flags=flags, borderMode=edge)
        return np.asarray(fine) > 0

    def scaled(self, sx: float, sy: float) -> ObjectMask:
        left, top = round(self.x * sx), round(self.y * sy)
        right, bottom = round((self.x + self.width) * sx), round((self.y + self.height) * sy)
        ax, bx, ay, by = self.to_field
        bx += ax * ((left + 0.5) / sx - 0.5 - self.x)
        by += ay * ((top + 0.5) / sy - 0.5 - self.y)
        size = (max(1, right - left), max(1, bottom - top))
        to_field = (ax / sx, bx, ay / sy, by)
        return ObjectMask(left, top, *size, self.field, to_field, self.outlined)

    @cached_property
    def outlines(self) -> list[NDArray[np.float32]]:
        """Outer outlines, each (P, 2) source pixels, along the edges of pixels; without holes."""
        import cv2

        # a pixel is 3 x 3 here, and shares its sides: contours go through centres, so along edges
        fine = np.zeros((2 * self.height + 1, 2 * self.width + 1), np.uint8)
        fine[1::2, 1::2] = self.pixels()
        fine = np.asarray(cv2.dilate(fine, np.ones((3, 3), np.uint8)), np.uint8)
        found, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        plain = [cv2.approxPolyDP(each, 2 * SIMPLER_PX, True)[:, 0] for each in found]
        corner = np.array((self.x, self.y), np.float32)
        return [each.astype(np.float32) / np.float32(2) + corner for each in plain if len(each) > 2]

    def runs(self, frame_wh_px: tuple[int, int]) -> NDArray[np.int64]:
        """COCO's counts in the whole frame: lengths of 0 and 1 in turn, column by column."""
        width, height = frame_wh_px
        # column by column, with a 0 before all and below each
        flat = np.zeros(1 + self.width * (self.height + 1), np.bool_)
        flat[1:].reshape(self.width, -1)[:, :-1] = self.pixels().T
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        column, row = np.divmod(edges, self.height + 1)
        places = (column + self.x) * height + row + self.y
        ends, starts = places[1:-1:2], places[2::2]  # a run that goes on in the next column is one
        apart = np.repeat(ends != starts, 2)
        places = np.concatenate((places[:1], places[1:-1][apart], places[-1:]))
        counts = np.diff(places, prepend=0, append=width * height)
        return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def pack_runs(counts: NDArray[np.int64]) -> str:
    """COCO's text of counts (cocoapi, rleToString): from the third on as differences to those two
    before, each in groups of 5 bits, the lowest first; 6th bit: more follow; 48 is added."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    shifts = 5 * np.arange(8)  # 40 bits: no frame has more pixels
    groups = (values[:, None] >> shifts) & 31
    rest = values[:, None] >> (shifts + 5)
    more = np.where(groups & 16, rest != -1, rest != 0)
    written = np.ones_like(more)
    written[:, 1:] = np.logical_and.accumulate(more[:, :-1], axis=1)
    return bytes((groups + 32 * more + 48)[written].astype(np.uint8)).decode("ascii")


def unpack_runs(text: str) -> list[int]:
    """The counts of COCO's text. Raises ValueError where it is none."""
    counts, value, shift = list[int](), 0, 0
    for byte in text.encode():
        group = byte - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"{text[:20]!r} is no text of run lengths")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def runs_overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two masks by their counts; 1 where both are empty."""
    flat = [np.repeat(np.arange(len(each)) % 2 == 1, each) for each in (one, other)]
    if len(flat[0]) != len(flat[1]):
        return 0.0
    union = int((flat[0] | flat[1]).sum())
    return int((flat[0] & flat[1]).sum()) / union if union else 1.0
