"""YOLO-FastestV2: three anchors a cell, which share their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import base

ANCHORS = 3
STRIDES = (16, 32)
# of COCO, as pixels of an input of 352: width, height of each, by level
COCO = [12.64, 19.39, 37.88, 51.48, 55.71, 138.31, 126.91, 78.23, 131.57, 214.55, 279.92, 258.87]
NOTE = "its anchors are taken to be COCO's: others are `decoder.anchors` in its manifest"


class YoloFastest:
    """Per level [1, h, w, 12 + 3 + C]: a box and an objectness an anchor, classes of the cell.

    All activated in the graph. Centre = (cell + 2t − ½) × stride, size = (2t)² × anchor, score =
    objectness × class. Source: dog-qiuqiu/Yolo-FastestV2, ``utils/utils.py``.
    """

    def __init__(self, head: base.Head) -> None:
        width, (w, h) = 5 * ANCHORS + head.classes, head.input_wh
        levels = [(1, -(-h // s), -(-w // s), width) for s in STRIDES]
        base.check_shapes(head, "yolofastest", *levels)
        self._cells, self._steps = base.cells(head.input_wh, STRIDES)
        anchors = np.array(head.parameters["anchors"], np.float32).reshape(2, ANCHORS, 2)
        self._anchors = np.repeat(anchors, base.cell_counts(head.input_wh, STRIDES), axis=0)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows = np.concatenate([out.reshape(-1, out.shape[3]) for out in outputs])
        class_ids, peaks = base.best_class(rows[:, 5 * ANCHORS :])
        scores = rows[:, 4 * ANCHORS : 5 * ANCHORS] * peaks[:, None]
        cell, anchor = (scores >= score).nonzero()
        terms = rows[:, : 4 * ANCHORS].reshape(-1, ANCHORS, 4)[cell, anchor] * 2
        step = self._steps[cell]
        centre = (terms[:, :2] - np.float32(0.5) + self._cells[cell]) * step
        size = terms[:, 2:] ** 2 * self._anchors[cell, anchor]
        return base.Candidates(base.corners(centre, size), scores[cell, anchor], class_ids[cell])


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    w, h = size_wh
    match [*graph.bodies.values()]:
        case [(int(), int(), int(width)), (int(), int(), int(other))]:
            sizes = [body[:2] for body in graph.bodies.values()]
            classes = width - 5 * ANCHORS
            fits = sizes == [(-(-h // s), -(-w // s)) for s in STRIDES] and width == other
            if fits and classes > 0:
                return [base.Match(classes, {}, notes=() if classes == 80 else (NOTE,))]
    return []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    return base.doubt_scores(*outputs.values())


def _are_anchors(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == len(COCO)
        and all(type(v) in (int, float) and 0 < v < 10_000 for v in value)
    )


FAMILY = base.Family(
    name="yolofastest",
    outputs="[1, h, w, 15+C] of 16 and 32 pixels",
    parameters=(
        base.Parameter(
            "anchors", COCO, f"{len(COCO)} numbers above 0: width, height of each", _are_anchors
        ),
    ),
    input={"resize": "stretch", "scale": 1 / 255},
    score=0.3,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloFastest,
)
