"""YOLOv8 and YOLO11 with NMS in the graph: ``end_to_end = true`` in a manifest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import base, yolov8


class EndToEnd:
    """[1, M, 6]: xyxy in input pixels, score, class id; NMS was done in the graph."""

    def __init__(self, head: base.Head) -> None:
        shapes = head.shapes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 6:
            raise base.refuse(head, "yolov8 (end to end)", "one of [1, M, 6]")
        self._classes = head.classes

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows: base.Array = outputs[0][0]
        # a class that the labels do not have is no class: graphs fill empty rows so
        known = (rows[:, 5] >= 0) & (rows[:, 5] < self._classes)
        rows = rows[(rows[:, 4] >= score) & known]
        return base.Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp))


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    (rows, columns), n = graph.matrix, sum(base.cell_counts(size_wh))
    survivors = rows == 300 or ("names" in graph.metadata and rows not in (n, 3 * n))
    fits = columns == 6 != n and survivors
    return base.Match(None, {"end_to_end": True}) if fits else None


def doubt(outputs: base.NamedOutputs) -> str | None:
    return base.doubt_scores(base.first_frame(outputs)[:, 4])


FAMILY = replace(
    yolov8.FAMILY,
    variant="end_to_end",
    outputs="[1, 300, 6]",
    needs_nms=False,
    varies=True,
    recognise=recognise,
    doubt=doubt,
    decoder=EndToEnd,
    device=None,
)
