"""Sliced inference: a frame and overlapping parts of it, as pieces of one slot's work, made one.

What is small in a frame is larger in its parts. Of a part's boxes those that its inner borders cut
are left out: the overlap holds what is small, whole, and the frame's own pass what is large. So no
box ends at a seam. What several pieces have found is kept once, the strongest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections
from ..core.errors import ConfigError
from ..core.filters import overlap
from ..core.frame import Frame, cropped
from ..core.interfaces import Answer, Backend, BackendFactory, EngineKind, Slot, Tunable
from ..models.manifest import ModelSpec

Tile = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the frame
Parts = Sequence[tuple[Tile, Detections]]
MOST = 8  # parts along a side
AUTO_MOST = 4  # the same where the frame's size decides
SHRUNK = 2.0  # "auto": a part is shrunk to no less than half its size
LEAST_PX = 32  # of a part's side
MARGIN = 6.0  # pixels of the network: a box that ends so near to a border is taken to be cut


@dataclass(frozen=True, slots=True)
class SliceGrid:
    """``columns`` x ``rows`` parts, 0: by the frame's size; ``share`` of a part that overlaps."""

    columns: int
    rows: int
    share: float

    @classmethod
    def parse(cls, text: str, share: float) -> SliceGrid | None:
        """``2x2``, ``3x1`` or ``auto``; None for ``1x1``. Raises ConfigError."""
        match = re.fullmatch(r"(\d)x(\d)", text)
        columns, rows = (int(match[1]), int(match[2])) if match else (0, 0)
        if text != "auto" and not (1 <= columns <= MOST and 1 <= rows <= MOST):
            raise ConfigError(
                f"slices is {text!r}; write auto, or 1x1 to {MOST}x{MOST}, such as 2x2"
            )
        return None if columns == rows == 1 else cls(columns, rows, share)

    @property
    def pieces(self) -> int:
        return (self.columns or AUTO_MOST) * (self.rows or AUTO_MOST) + 1

    @property
    def text(self) -> str:
        return f"slices {self.columns}x{self.rows}" if self.columns else "slices auto"

    def plan(self, frame: Frame, input_wh: tuple[int, int]) -> tuple[bool, list[Tile]]:
        return True, self.tiles(frame.wh_px, input_wh)

    def found(self, frame: Frame, found: Detections, parts: Parts, *, whole: bool) -> None:
        """Nothing is learned from it."""

    def tiles(self, wh_px: tuple[int, int], input_wh: tuple[int, int]) -> list[Tile]:
        """The parts of a frame for a network's input; none where one would be the whole frame.

        Corners are even but at the frame's end, as chroma needs it.
        """
        spans = [
            _spans(side, count or _auto(side, self.share, SHRUNK * room), self.share)
            for side, count, room in zip(wh_px, (self.columns, self.rows), input_wh, strict=True)
        ]
        tiles = [(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(spans[1], spans[0])]
        return tiles if len(tiles) > 1 else []


def _auto(side: int, share: float, most: float) -> int:
    """The fewest parts of a side of which none is longer than ``most``."""
    counts = range(1, AUTO_MOST)
    return next((n for n in counts if side / (n - (n - 1) * share) <= most), AUTO_MOST)


def _spans(side: int, count: int, share: float) -> list[tuple[int, int]]:
    """(start, end) of ``count`` parts, fewer of a small frame, as long and overlapping alike."""
    count = max(1, min(count, side // LEAST_PX))
    length = min(side, math.ceil(side / (count - (count - 1) * share) / 2) * 2)
    gap = (side - length) / max(count - 1, 1)
    starts = [int(gap * i) // 2 * 2 for i in range(count)]
    return [*((start, start + length) for start in starts[:-1]), (starts[-1], side)]


def whole_in(
    found: Detections, tile: Tile, wh_px: tuple[int, int], margin: float
) -> NDArray[np.bool_]:
    """(N,) boxes of a part, in its own pixels, that no inner border of it cuts.

    A border that is the frame's own cuts nothing. ``margin``: pixels of the frame.
    """
    x0, y0, x1, y1 = tile
    low = [margin if start else -1.0 for start in (x0, y0)]
    high = [
        end - start - margin if end < side else end - start + 1.0
        for start, end, side in zip((x0, y0), (x1, y1), wh_px, strict=True)
    ]
    boxes = found.xyxy
    inside = np.concatenate((boxes[:, :2] >= low, boxes[:, 2:] <= high), axis=1)
    whole: NDArray[np.bool_] = np.logical_and.reduce(inside, axis=1)
    return whole


def merged_pieces(parts: Sequence[Detections], iou: float) -> Detections:
    """All that pieces have found, in pixels of the frame; of one class and place the strongest.

    Boxes of one piece have been through NMS: they are not compared again.
    """
    found = Detections.concat(parts)
    if len(found) < 2:
        return found
    scores = np.concatenate([each.scores for each in parts])
    piece = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    piece = piece[(-scores).argsort(kind="stable")]  # as concat puts them
    kept = np.ones(len(found), bool)
    for i in range(len(found) - 1):
        if kept[i]:
            rest = slice(i + 1, None)
            other = (piece[rest] != piece[i]) & (found.class_ids[rest] == found.class_ids[i])
            kept[rest] &= ~(other & (overlap(found.xyxy[i], found.xyxy[rest]) > iou))
    return found if kept.all() else found[kept]


class Plan(Protocol):
    """Which parts of frames are looked at; the pipeline thread's alone."""

    @property
    def text(self) -> str:
        """For the log."""

    def plan(self, frame: Frame, input_wh: tuple[int, int]) -> tuple[bool, list[Tile]]:
        """Whether the whole frame, and which parts; at least one of them."""

    def found(self, frame: Frame, found: Detections, parts: Parts, *, whole: bool) -> None:
        """What came of it, and of the parts in their own pixels."""


class SlicedBackend:
    """A ``Backend`` whose slots do a frame's pieces; a context manager for the pipeline thread.

    ``inner``: the engine, whose slots take all pieces at once or some, one lot after the other.
    """

    def __init__(
        self,
        inner: BackendFactory,
        grid: Plan,
        spec: ModelSpec,
        *,
        wake: Callable[[], None],
        iou: float,
    ) -> None:
        self._inner: AbstractContextManager[Backend] = inner(wake)
        self._grid, self._spec, self._iou = grid, spec, iou
        self.slots: Sequence[SlicedSlot] = ()

    def __enter__(self) -> SlicedBackend:
        self._backend = self._inner.__enter__()
        self.slots = [SlicedSlot(each, self._grid, self._spec) for each in self._backend.slots]
        self._set_iou(self._iou)
        return self

    def __exit__(self, *error: Any) -> None:
        self.slots = ()
        self._inner.__exit__(*error)

    def tune(self, *, score: float, iou: float) -> None:
        backend: object = self._backend
        if isinstance(backend, Tunable):
            backend.tune(score=score, iou=iou)
        self._set_iou(iou)

    def _set_iou(self, iou: float) -> None:
        for slot in self.slots:
            slot.iou = iou

    @property
    def kind(self) -> EngineKind:
        return self._backend.kind

    @property
    def description(self) -> str:
        return f"{self._backend.description}, {self._grid.text}"

    @property
    def remarks(self) -> Sequence[str]:
        return self._backend.remarks


class SlicedSlot:
    """One frame in flight, as pieces: the whole of it first, then its parts."""

    capacity = 1

    def __init__(self, inner: Slot, grid: Plan, spec: ModelSpec) -> None:
        self._inner, self._grid, self._spec = inner, grid, spec
        self.iou = 0.5
        self._waiting: list[Frame] = []
        self._answers: list[Answer] = []
        self._tiles: list[Tile] = []
        self._frame: Frame | None = None
        self._whole = True

    def enqueue(self, frames: Sequence[Frame]) -> None:
        """See interfaces.Slot. The known picture of the self-test (index -1) is not sliced."""
        (frame,) = frames
        self._frame, self._whole, self._tiles = frame, True, []
        if frame.index >= 0:
            self._whole, self._tiles = self._grid.plan(frame, self._spec.input.size_wh)
        parts = [cropped(frame, *tile) for tile in self._tiles]
        self._waiting = [frame, *parts] if self._whole else parts
        self._next()

    def _next(self) -> None:
        room = self._inner.capacity
        lot, self._waiting = self._waiting[:room], self._waiting[room:]
        self._inner.enqueue(lot)

    def ready(self) -> bool:
        if not self._inner.ready():
            return False
        if not self._waiting:
            return True
        self._answers += self._inner.collect()
        self._next()
        return False

    def collect(self) -> Sequence[Answer]:
        """See interfaces.Slot. Stages are those of all pieces; merging is postprocessing."""
        try:
            while True:
                self._answers += self._inner.collect()
                if not self._waiting:
                    break
                self._next()
        finally:
            answers, self._answers, self._waiting = self._answers, [], []
        frame, self._frame = self._frame, None
        assert frame is not None, "nothing was enqueued"
        stages = dict(answers[0][1])
        of_parts = answers[1:] if self._whole else answers
        found = answers[0][0] if self._whole else Detections.empty()
        if not self._tiles:
            if frame.index >= 0:
                self._grid.found(frame, found, (), whole=True)
            return [(found, stages)]
        if not all(times for _, times in answers):  # a GPU does not time every part
            stages = {}
        for _, times in answers[1:] if stages else ():
            for name, spent_ns in times.items():
                stages[name] = stages.get(name, 0) + spent_ns
        start_ns = perf_counter_ns()
        parts = [found]
        for tile, (part, _) in zip(self._tiles, of_parts, strict=True):
            if len(part):
                whole = whole_in(part, tile, frame.wh_px, self._margin(tile))
                parts.append(moved(part[whole], tile[0], tile[1]))
        found = merged_pieces(parts, self.iou)
        seen = [(tile, part) for tile, (part, _) in zip(self._tiles, of_parts, strict=True)]
        self._grid.found(frame, found, seen, whole=self._whole)
        if stages:
            stages["postprocess"] = stages.get("postprocess", 0) + perf_counter_ns() - start_ns
        return [(found, stages)]

    def _margin(self, tile: Tile) -> float:
        width, height = self._spec.input.size_wh
        return MARGIN * max((tile[2] - tile[0]) / width, (tile[3] - tile[1]) / height)


def moved(found: Detections, x: int, y: int) -> Detections:
    """In pixels of the frame of which a part begins at (x, y)."""
    shift = np.array((x, y), np.float32)
    points, turned, masks = found.keypoints, found.polygons, found.masks
    if masks is not None:
        masks = masks.copy()
        masks[:] = [replace(each, x=each.x + x, y=each.y + y) for each in masks]
    return replace(
        found,
        xyxy=found.xyxy + np.tile(shift, 2),
        keypoints=None if points is None else points + shift,
        polygons=None if turned is None else turned + shift,
        masks=masks,
    )
