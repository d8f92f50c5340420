"""YOLOv8 and YOLO11, as Ultralytics exports them without NMS or (``end_to_end = true``) with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import base


class YoloV8:
    """[1, 4 + C, N]: centre and size in input pixels and class scores; no objectness."""

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "yolov8", (1, 4 + head.classes, "N"))

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        columns: base.Array = outputs[0][0]
        peaks = np.maximum.reduce(columns[4:])
        base.refuse_negative(peaks)
        kept = (peaks >= score).nonzero()[0]
        if not len(kept):
            return base.NOTHING
        block = columns.take(kept, axis=1)
        class_ids = block[4:].argmax(axis=0)
        return base.Candidates(base.corners(block[:2].T, block[2:4].T), peaks[kept], class_ids)


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    rows, columns = graph.matrix
    fits = columns == sum(base.cell_counts(size_wh)) and rows > 4
    return base.Match(rows - 4, {}) if fits else None


def doubt(outputs: base.NamedOutputs) -> str | None:
    columns = base.first_frame(outputs)
    return base.doubt_scores(columns[4:]) or base.doubt_pixels(columns[:4])


def _grid(head: base.Head) -> base.Array:
    """The kernel needs no positions, only a row for each cell."""
    return np.zeros((head.shapes[0][2], 3), np.float32)


FAMILY = base.Family(
    name="yolov8",
    outputs="[1, 4+C, N]",
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloV8,
    device=base.DeviceKernel("candidates_yolov8", _grid),
)


class EndToEnd:
    """[1, M, 6]: xyxy in input pixels, score, class id; NMS was done in the graph."""

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "yolov8 (end to end)", (1, "M", 6))
        self._classes = head.classes

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows: base.Array = outputs[0][0]
        # a class that the labels do not have is no class: graphs fill empty rows so
        known = (rows[:, 5] >= 0) & (rows[:, 5] < self._classes)
        rows = rows[(rows[:, 4] >= score) & known]
        return base.Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp))


def recognise_end_to_end(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    (rows, columns), n = graph.matrix, sum(base.cell_counts(size_wh))
    survivors = rows == 300 or ("names" in graph.metadata and rows not in (n, 3 * n))
    fits = columns == 6 != n and survivors
    return base.Match(None, {"end_to_end": True}) if fits else None


def doubt_end_to_end(outputs: base.NamedOutputs) -> str | None:
    return base.doubt_scores(base.first_frame(outputs)[:, 4])


END_TO_END = replace(
    FAMILY,
    variant="end_to_end",
    outputs="[1, 300, 6]",
    needs_nms=False,
    varies=True,
    recognise=recognise_end_to_end,
    doubt=doubt_end_to_end,
    decoder=EndToEnd,
    device=None,
)
