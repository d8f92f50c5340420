"""YOLOv8 and YOLO11, as Ultralytics exports them without NMS; with it: rows.py."""

from __future__ import annotations

from collections.abc import Sequence

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


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    rows, columns = graph.matrix
    fits = base.levels(columns, size_wh) and rows > 4 and graph.task in ("", "detect")
    return [base.Match(rows - 4, {})] if fits else []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
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
    export="Export it with `yolo export model=best.pt format=onnx`",
    device=base.DeviceKernel("candidates_yolov8", _grid),
)
