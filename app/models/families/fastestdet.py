"""FastestDet: one level of cells, 16 pixels wide where the input has its usual size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import base


class FastestDet:
    """[1, 5 + C, h, w]: objectness, four box terms, classes; objectness and classes activated.

    score = objectness^0.6 × class^0.4; centre = (cell + tanh t) / grid, size = sigmoid t, both as
    parts of the input. Source: dog-qiuqiu/FastestDet, ``utils/tool.py``.
    """

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "fastestdet", (1, 5 + head.classes, "h", "w"))
        rows, columns = head.shapes[0][2:]
        cell, _ = base.cells((columns, rows), (1,))
        self._input = np.array(head.input_wh, np.float32)
        self._step = self._input / np.array((columns, rows), np.float32)
        self._corners = cell * self._step

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        channels = outputs[0][0].reshape(-1, len(self._corners))
        # No class exceeds 1, so an objectness below this bound cannot reach the threshold.
        kept = (channels[0] >= score ** (1 / 0.6)).nonzero()[0]
        if not len(kept):
            return base.NOTHING
        block = channels.take(kept, axis=1)
        scores = block[0] ** np.float32(0.6) * np.maximum.reduce(block[5:]) ** np.float32(0.4)
        strong = (scores >= score).nonzero()[0]
        block = block.take(strong, axis=1)
        terms = block[1:5]
        terms[2:] *= np.float32(0.5)  # sigmoid(t) = (tanh(t / 2) + 1) / 2: one tanh for all four
        np.tanh(terms, out=terms)
        centre = self._corners[kept[strong]] + terms[:2].T * self._step
        size = (terms[2:].T + np.float32(1)) * (self._input * np.float32(0.5))
        return base.Candidates(base.corners(centre, size), scores[strong], block[5:].argmax(axis=0))


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    (w, h), bodies = size_wh, [*graph.bodies.values()]
    if len(bodies) != 1 or bodies[0][1:] != (-(-h // 16), -(-w // 16)):
        return []
    classes = (bodies[0][0] or 0) - 5
    return [base.Match(classes, {})] if classes > 0 else []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    channels = base.first_frame(outputs)
    return base.doubt_scores(channels[:1], channels[5:])


FAMILY = base.Family(
    name="fastestdet",
    outputs="[1, 5+C, H/16, W/16]",
    input={"resize": "stretch", "scale": 1 / 255},
    score=0.65,
    any_size=False,
    recognise=recognise,
    doubt=doubt,
    decoder=FastestDet,
)
