"""One table of centre, size, objectness and classes: YOLOv5, YOLOv7; YOLOv6; YOLOX decoded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import base

V5, V6, X = "YOLOv5 or YOLOv7", "YOLOv6 or Gold-YOLO", "YOLOX, decoded in the graph"
YOLOX_INPUT: base.InputDefaults = {"align": "top-left"}


class YoloV5:
    """[1, N, 5 + C]: centre and size in input pixels, objectness and classes after the sigmoid."""

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "yolov5", (1, "N", 5 + head.classes))

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows = outputs[0][0]
        kept, class_ids, scores = base.over_threshold(rows, score)
        return base.Candidates(base.corners(rows[kept, :2], rows[kept, 2:4]), scores, class_ids)


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    rows, columns = graph.matrix
    if columns <= 5 or graph.task not in ("", "detect"):
        return []
    if base.levels(rows, size_wh, 3):
        return [base.Match(columns - 5, {}, V5)]
    if base.levels(rows, size_wh):
        return [
            base.Match(columns - 5, {}, V6),
            base.Match(columns - 5, {}, X, YOLOX_INPUT),
        ]
    return []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    rows = base.first_frame(outputs)
    if why := base.doubt_scores(rows[:, 4:]):
        return why
    if match.what == V5:
        return base.doubt_pixels(rows[:, :4])
    if base.doubt_pixels(rows[:, :4], base.STRIDES[-1]):  # YOLOX not decoded gives small numbers
        return "its boxes are not decoded in the graph"
    # YOLOv6 has no objectness and writes 1
    if bool(np.all(rows[:, 4] == 1)) == (match.what == V6):
        return None
    return f"its objectness is {'not ' if match.what == V6 else ''}1 everywhere"


FAMILY = base.Family(
    name="yolov5",
    outputs="[1, N or 3N, 5+C]",
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloV5,
    export="Export it with YOLOv5's `export.py --include onnx`, YOLOv7's `export.py --grid`",
)
