"""Decoders of YOLOX, YOLOv5 and YOLOv8/11.

Each keeps the rows over the threshold first and does arithmetic on the survivors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    NOTHING,
    Array,
    Candidates,
    Shapes,
    best_class,
    cells,
    corners,
    refuse,
)


class YoloX:
    """[1, N, 5 + C]: raw xy and log wh per cell, objectness and classes after the sigmoid.

    Source: Megvii YOLOX, ``demo_postprocess``.
    """

    needs_nms = True

    def __init__(
        self, shapes: Shapes, *, input_wh: tuple[int, int], classes: int, strides: Sequence[int]
    ) -> None:
        self._cells, self._strides = cells(input_wh, strides)
        expected = (1, len(self._cells), 5 + classes)
        if list(shapes) != [expected]:
            raise refuse("yolox", shapes, f"one of {list(expected)}")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows = outputs[0][0]
        kept = (rows[:, 4] >= score).nonzero()[0]
        kept, class_ids, scores = _over_threshold(rows, kept, score)
        raw, stride = rows[kept, :4], self._strides[kept]
        size = np.exp(raw[:, 2:]) * stride
        return Candidates(
            corners((raw[:, :2] + self._cells[kept]) * stride, size), scores, class_ids
        )


class YoloV5:
    """[1, N, 5 + C]: centre and size in input pixels, objectness and classes after the sigmoid."""

    needs_nms = True

    def __init__(self, shapes: Shapes, *, classes: int) -> None:
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 5 + classes:
            raise refuse("yolov5", shapes, f"one of [1, N, {5 + classes}]")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows = outputs[0][0]
        kept = (rows[:, 4] >= score).nonzero()[0]
        kept, class_ids, scores = _over_threshold(rows, kept, score)
        return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), scores, class_ids)


class YoloV8:
    """[1, 4 + C, N]: centre and size in input pixels and class scores; no objectness. Also v11."""

    needs_nms = True

    def __init__(self, shapes: Shapes, *, classes: int) -> None:
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][1] != 4 + classes:
            raise refuse("yolov8", shapes, f"one of [1, {4 + classes}, N]")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        columns: Array = outputs[0][0]
        peaks = np.maximum.reduce(columns[4:])
        kept = (peaks >= score).nonzero()[0]
        if not len(kept):
            return NOTHING
        block = columns.take(kept, axis=1)
        class_ids = block[4:].argmax(axis=0)
        return Candidates(corners(block[:2].T, block[2:4].T), peaks[kept], class_ids)


class EndToEnd:
    """[1, M, 6]: xyxy in input pixels, score, class id; NMS was done in the graph."""

    needs_nms = False

    def __init__(self, shapes: Shapes, *, classes: int) -> None:
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 6:
            raise refuse("yolov8 (end to end)", shapes, "one of [1, M, 6]")
        self._classes = classes

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows: Array = outputs[0][0]
        # a class that the labels do not have is no class: graphs fill empty rows so
        known = (rows[:, 5] >= 0) & (rows[:, 5] < self._classes)
        rows = rows[(rows[:, 4] >= score) & known]
        return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp))


def _over_threshold(
    rows: Array, kept: NDArray[np.intp], score: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Of the rows ``kept`` by objectness, those whose objectness × class reaches ``score``."""
    class_ids, class_scores = best_class(rows[kept, 5:])
    scores = rows[kept, 4] * class_scores
    strong = scores >= score
    return kept[strong], class_ids[strong], scores[strong]
