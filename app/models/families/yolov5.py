"""YOLOv5, as Ultralytics exports it; exports of YOLOv7 look the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from .base import (
    Candidates,
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
    over_threshold,
    refuse,
)


class YoloV5:
    """[1, N, 5 + C]: centre and size in input pixels, objectness and classes after the sigmoid."""

    def __init__(self, head: Head) -> None:
        shapes, columns = head.shapes, 5 + head.classes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] != columns:
            raise refuse(head, "yolov5", f"one of [1, N, {columns}]")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows = outputs[0][0]
        kept, class_ids, scores = over_threshold(rows, score)
        return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), scores, class_ids)


def recognise(graph: GraphIO, size_wh: SizeWh) -> Match | None:
    rows, columns = graph.matrix
    fits = rows == 3 * sum(cell_counts(size_wh)) and columns > 5
    return Match(columns - 5, {}) if fits else None


def doubt(outputs: Mapping[str, NDArray[Any]]) -> str | None:
    rows = first_frame(outputs)
    return doubt_scores(rows[:, 4:]) or doubt_pixels(rows[:, :4])


FAMILY = Family(
    name="yolov5",
    variant=None,
    outputs="[1, 3N, 5+C]",
    parameters=(),
    labels=(),
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    needs_nms=True,
    varies=False,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloV5,
    device=None,
)
