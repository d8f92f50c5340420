"""YOLOv8 and YOLO11, as Ultralytics exports them without NMS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    NOTHING,
    Array,
    Candidates,
    DeviceKernel,
    Family,
    GraphIO,
    Head,
    Match,
    SizeWh,
    cell_counts,
    corners,
    doubt_pixels,
    doubt_scores,
    first_frame,
    refuse,
)


class YoloV8:
    """[1, 4 + C, N]: centre and size in input pixels and class scores; no objectness."""

    def __init__(self, head: Head) -> None:
        shapes, rows = head.shapes, 4 + head.classes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][1] != rows:
            raise refuse(head, "yolov8", f"one of [1, {rows}, N]")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        columns: Array = outputs[0][0]
        peaks = np.maximum.reduce(columns[4:])
        kept = (peaks >= score).nonzero()[0]
        if not len(kept):
            return NOTHING
        block = columns.take(kept, axis=1)
        class_ids = block[4:].argmax(axis=0)
        return Candidates(corners(block[:2].T, block[2:4].T), peaks[kept], class_ids)


def recognise(graph: GraphIO, size_wh: SizeWh) -> Match | None:
    rows, columns = graph.matrix
    fits = columns == sum(cell_counts(size_wh)) and rows > 4
    return Match(rows - 4, {}) if fits else None


def doubt(outputs: Mapping[str, NDArray[Any]]) -> str | None:
    columns = first_frame(outputs)
    return doubt_scores(columns[4:]) or doubt_pixels(columns[:4])


def _grid(head: Head) -> Array:
    """The kernel needs no positions, only a row for each cell."""
    return np.zeros((head.shapes[0][2], 3), np.float32)


FAMILY = Family(
    name="yolov8",
    variant=None,
    outputs="[1, 4+C, N]",
    parameters=(),
    labels=(),
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    needs_nms=True,
    varies=False,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloV8,
    device=DeviceKernel("candidates_yolov8", _grid),
)
