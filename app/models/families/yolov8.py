"""YOLOv8 and YOLO11, as Ultralytics exports them without NMS."""

from __future__ import annotations

import numpy as np

from . import base


class YoloV8:
    """[1, 4 + C, N]: centre and size in input pixels and class scores; no objectness."""

    def __init__(self, head: base.Head) -> None:
        shapes, rows = head.shapes, 4 + head.classes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][1] != rows:
            raise base.refuse(head, "yolov8", f"one of [1, {rows}, N]")

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        columns: base.Array = outputs[0][0]
        peaks = np.maximum.reduce(columns[4:])
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
    device=base.DeviceKernel("candidates_yolov8", _grid),
)
