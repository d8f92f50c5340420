"""Where to look in a frame: around what moves, and around what was found a moment ago.

A part keeps the frame's own pixels, so that what is small stays as large as it is; the whole frame
is looked at now and then, and where a part shows that it cuts something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..core.detections import Detections
from ..core.filters import overlap
from ..core.frame import Frame
from .slices import Parts, Tile, whole_in

MOST = 4  # parts of a frame: more are brought together
CROWD = 16
GROWN, LEAST_PX = 0.3, 16  # of a box, at each side
LARGE = 0.4  # of a side of the frame: what is so long, the whole frame shows
SAME = 0.3  # overlap with a newer box
STEP = 32  # a part's shorter side, in pixels of the network
EVERY_S = 1.0  # the whole frame, where the motion gate says nothing else


@dataclass(slots=True)
class _Lane:
    """What is known of one source."""

    whole_ns: int = -(1 << 62)  # when its whole frame was looked at last
    again: bool = False  # a part has cut something
    boxes: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)  # time, xyxy


class Regions:
    """Chooses parts of frames; the pipeline thread's alone. ``every_s``: between whole frames."""

    pieces = MOST + 1
    text = "regions"

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_ns = round(every_s * 1e9)
        self._lanes: dict[int, _Lane] = {}

    def plan(self, frame: Frame, input_wh: tuple[int, int]) -> tuple[bool, list[Tile]]:
        """Whether to look at the whole frame, and at which parts beside or instead."""
        wh_px, time_ns = frame.wh_px, frame.time_ns
        if frame.regions is None or all(a <= b for a, b in zip(wh_px, input_wh, strict=True)):
            return True, []
        lane = self._lanes.setdefault(frame.lane, _Lane())
        boxes = [box for seen_ns, box in lane.boxes if abs(time_ns - seen_ns) <= self._every_ns]
        rects: list[Tile] = []
        whole = lane.again or not 0 <= time_ns - lane.whole_ns < self._every_ns
        for box in (*frame.regions, *boxes):
            width, height = box[2] - box[0], box[3] - box[1]
            if width > LARGE * wh_px[0] or height > LARGE * wh_px[1]:
                whole = True
                continue
            dx, dy = max(LEAST_PX, GROWN * width), max(LEAST_PX, GROWN * height)
            rects.append(
                (
                    *(max(0, int(box[0] - dx) // 2 * 2), max(0, int(box[1] - dy) // 2 * 2)),
                    *(min(wh_px[0], _even(box[2] + dx)), min(wh_px[1], _even(box[3] + dy))),
                )
            )
        tiles = _brought_together(rects, wh_px, input_wh)
        whole = whole or not tiles
        if whole:
            lane.whole_ns, lane.again = time_ns, False
        return whole, tiles

    def found(self, frame: Frame, found: Detections, parts: Parts, *, whole: bool) -> None:
        """What came of it: of the frame, and of its parts in their own pixels."""
        if frame.regions is None:
            return
        lane, time_ns = self._lanes.setdefault(frame.lane, _Lane()), frame.time_ns
        new = [tuple(map(float, box)) for box in found.xyxy]
        old = [
            (seen_ns, box)
            for seen_ns, box in lane.boxes
            if abs(time_ns - seen_ns) <= self._every_ns
            and not (new and overlap(np.array(box, np.float32), found.xyxy).max() > SAME)
        ]
        lane.boxes = [*((time_ns, box) for box in new), *old]
        if not whole:
            cut = (not whole_in(part, tile, frame.wh_px, 2.0).all() for tile, part in parts)
            lane.again |= any(cut)


def _even(length: float) -> int:
    return math.ceil(length / 2) * 2


def _part(rect: Tile, wh_px: tuple[int, int], input_wh: tuple[int, int]) -> Tile:
    """The part for a rectangle: in the network's own scale where that holds it, else shrunk."""
    sides = [rect[2] - rect[0], rect[3] - rect[1]]
    scale = max(1.0, *(side / room for side, room in zip(sides, input_wh, strict=True)))
    longer = 0 if sides[0] / input_wh[0] >= sides[1] / input_wh[1] else 1
    step = STEP * scale
    lengths = [_even(math.ceil(side / step) * step) for side in sides]
    lengths[longer] = _even(input_wh[longer] * scale)
    corners = []
    for i, length in enumerate(lengths):  # all even but the frame's end, as chroma needs it
        start = (rect[i] + rect[i + 2] - length) // 2
        start = max(0, min(start, wh_px[i] - length)) // 2 * 2
        end = start + length
        corners.append((start, wh_px[i] if end >= wh_px[i] - 1 else end))
    return corners[0][0], corners[1][0], corners[0][1], corners[1][1]


def _both(a: Tile, b: Tile) -> Tile:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _cost(rect: Tile, wh_px: tuple[int, int], input_wh: tuple[int, int]) -> float:
    """Pixels of the network that its part takes."""
    x0, y0, x1, y1 = _part(rect, wh_px, input_wh)
    scale = max(1.0, (x1 - x0) / input_wh[0], (y1 - y0) / input_wh[1])
    return (x1 - x0) * (y1 - y0) / scale**2


def _brought_together(
    rects: list[Tile], wh_px: tuple[int, int], input_wh: tuple[int, int]
) -> list[Tile]:
    """Parts that hold all rectangles: together where that is cheaper, and MOST of them at most."""
    rects, cell = list(dict.fromkeys(rects)), input_wh
    while len(rects) > CROWD:  # which pair is best would take too long to find
        places: dict[tuple[int, int], Tile] = {}
        for each in rects:
            place = (each[0] + each[2]) // 2 // cell[0], (each[1] + each[3]) // 2 // cell[1]
            places[place] = _both(places.get(place, each), each)
        rects, cell = list(places.values()), (2 * cell[0], 2 * cell[1])
    costs = [_cost(each, wh_px, input_wh) for each in rects]
    while len(rects) > 1:
        best: tuple[float, int, int, Tile] | None = None
        for i in range(len(rects)):
            for j in range(i):
                both = _both(rects[i], rects[j])
                more = _cost(both, wh_px, input_wh) - costs[i] - costs[j]
                shrunk = max((both[2] - both[0]) / input_wh[0], (both[3] - both[1]) / input_wh[1])
                if shrunk > 1 and len(rects) <= MOST:
                    continue  # what is small would get smaller
                if best is None or more < best[0]:
                    best = (more, i, j, both)
        if best is None or (best[0] > 0 and len(rects) <= MOST):
            break
        _, i, j, both = best
        for gone in (i, j):
            del rects[gone], costs[gone]
        rects.append(both)
        costs.append(_cost(both, wh_px, input_wh))
    return [_part(each, wh_px, input_wh) for each in rects]
