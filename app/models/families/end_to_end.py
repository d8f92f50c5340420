"""YOLOv8 and YOLO11 with NMS in the graph: ``end_to_end = true`` in a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    Array,
    Candidates,
    Family,
    GraphIO,
    Head,
    Match,
    SizeWh,
    cell_counts,
    doubt_scores,
    first_frame,
    refuse,
)


class EndToEnd:
    """[1, M, 6]: xyxy in input pixels, score, class id; NMS was done in the graph."""

    def __init__(self, head: Head) -> None:
        shapes = head.shapes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != 6:
            raise refuse(head, "yolov8 (end to end)", "one of [1, M, 6]")
        self._classes = head.classes

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows: Array = outputs[0][0]
        # a class that the labels do not have is no class: graphs fill empty rows so
        known = (rows[:, 5] >= 0) & (rows[:, 5] < self._classes)
        rows = rows[(rows[:, 4] >= score) & known]
        return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp))


def recognise(graph: GraphIO, size_wh: SizeWh) -> Match | None:
    (rows, columns), n = graph.matrix, sum(cell_counts(size_wh))
    survivors = rows == 300 or ("names" in graph.metadata and rows not in (n, 3 * n))
    fits = columns == 6 != n and survivors
    return Match(None, {"end_to_end": True}) if fits else None


def doubt(outputs: Mapping[str, NDArray[Any]]) -> str | None:
    return doubt_scores(first_frame(outputs)[:, 4])


FAMILY = Family(
    name="yolov8",
    variant="end_to_end",
    outputs="[1, 300, 6]",
    parameters=(),
    labels=(),
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    needs_nms=False,
    varies=True,
    recognise=recognise,
    doubt=doubt,
    decoder=EndToEnd,
    device=None,
)
