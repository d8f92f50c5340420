"""CenterNet: a heat map a class, whose peaks are objects; sizes and offsets beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from . import base


class CenterNet:
    """Heat [1, C, h, w], size [1, 2, h, w] and offset [1, 2, h, w] in cells, in this order.

    A cell is an object of a class where no neighbour has more heat of it. Centre = (cell + offset)
    × stride; ``logits``: heat is before the sigmoid. Source: xingyizhou/CenterNet, ``decode.py``.
    """

    def __init__(self, head: base.Head, *, logits: bool = False) -> None:
        base.check_shapes(
            head, "centernet", (1, head.classes, "h", "w"), (1, 2, "h", "w"), (1, 2, "h", "w")
        )
        rows, columns = head.shapes[0][2:]
        self._logits = logits
        self._step = np.array((head.input_wh[0] / columns, head.input_wh[1] / rows), np.float32)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        heat = outputs[0][0]
        hot = heat >= (base.logit(score) if self._logits else score)
        if not hot.any():
            return base.NOTHING
        for plane, mask in zip(heat, hot, strict=True):
            if mask.any():
                mask &= plane == _hottest(plane)
        class_ids, row, column = hot.nonzero()
        scores = heat[class_ids, row, column]
        if self._logits:
            scores = base.sigmoid(scores)
        size, offset = (outputs[i][0][:, row, column].T for i in (1, 2))
        centre = (np.stack((column, row), axis=1) + offset) * self._step
        return base.Candidates(
            base.corners(centre.astype(np.float32), size * self._step), scores, class_ids
        )


def _hottest(plane: base.Array) -> base.Array:
    """Of each cell and its eight neighbours the greatest; outside there is nothing."""
    rows, columns = plane.shape
    around = np.full((rows + 2, columns + 2), -np.inf, np.float32)
    around[1:-1, 1:-1] = plane
    across = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
    return np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    match [*graph.bodies.values()]:
        case [(int(classes), int(rows), int(columns)), (2, *size), (2, *offset)]:
            cells = [rows, columns]
            fits = size == offset == cells and cells == [-(-n // 4) for n in reversed(size_wh)]
            return [base.Match(classes, {})] if fits else []
    return []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    heat, size, offset = outputs.values()
    if float(offset.min()) < -1 or float(offset.max()) > 2:
        return "its offsets are not within a cell: its outputs must be heat, size, offset"
    if float(size.max()) > max(size_wh):
        return "its sizes are not in cells"
    if match.parameters.get("logits"):
        negative = float(heat.min()) < -0.01
        return None if negative else "its heat is not negative anywhere, as logits are"
    return base.doubt_scores(heat)


FAMILY = base.Family(
    name="centernet",
    outputs="[1, C, H/4, W/4] and 2x [1, 2, H/4, W/4]",
    input={
        "scale": 1 / 255,
        "mean": (0.408, 0.447, 0.470),
        "std": (0.289, 0.274, 0.278),
        "pad": 0,
    },
    score=0.3,
    any_size=True,
    needs_nms=True,
    recognise=recognise,
    doubt=doubt,
    decoder=CenterNet,
)
LOGITS = replace(
    FAMILY,
    variant="logits",
    recognise=lambda graph, size: [
        m._replace(parameters={"logits": True}) for m in recognise(graph, size)
    ],
    decoder=lambda head: CenterNet(head, logits=True),
)
