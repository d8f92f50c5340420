"""How does FastestDet's output become boxes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders.common import NOTHING, Candidates, Shapes, cells, corners, refuse


class FastestDet:
    """[1, 5 + C, h, w]: objectness, four box terms, classes; objectness and classes activated.

    score = objectness^0.6 × class^0.4; centre = (cell + tanh t) / grid, size = sigmoid t, both as
    parts of the input. Source: dog-qiuqiu/FastestDet, ``utils/tool.py``.
    """

    needs_nms = True

    def __init__(self, shapes: Shapes, *, input_wh: tuple[int, int], classes: int) -> None:
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][:2] != (1, 5 + classes):
            raise refuse("fastestdet", shapes, f"one of [1, {5 + classes}, h, w]")
        rows, columns = shapes[0][2:]
        cell, _ = cells((columns, rows), (1,))
        self._input = np.array(input_wh, np.float32)
        self._step = self._input / np.array((columns, rows), np.float32)
        self._corners = cell * self._step

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        channels = outputs[0][0].reshape(-1, len(self._corners))
        # No class exceeds 1, so an objectness below this bound cannot reach the threshold.
        kept = (channels[0] >= score ** (1 / 0.6)).nonzero()[0]
        if not len(kept):
            return NOTHING
        block = channels.take(kept, axis=1)
        scores = block[0] ** np.float32(0.6) * np.maximum.reduce(block[5:]) ** np.float32(0.4)
        strong = (scores >= score).nonzero()[0]
        block = block.take(strong, axis=1)
        terms = block[1:5]
        terms[2:] *= np.float32(0.5)  # sigmoid(t) = (tanh(t / 2) + 1) / 2: one tanh for all four
        np.tanh(terms, out=terms)
        centre = self._corners[kept[strong]] + terms[:2].T * self._step
        size = (terms[2:].T + np.float32(1)) * (self._input * np.float32(0.5))
        return Candidates(corners(centre, size), scores[strong], block[5:].argmax(axis=0))
