"""How does FastestDet's output become boxes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders.common import Candidates, Shapes, best_class, corners, refuse, squash


class FastestDet:
    """[1, 5 + C, h, w]: objectness, four box terms, classes; objectness and classes activated.

    score = objectness^0.6 × class^0.4; centre = (cell + tanh t) / grid, size = sigmoid t, both as
    parts of the input. Source: dog-qiuqiu/FastestDet, ``utils/tool.py``.
    """

    needs_nms = True

    def __init__(self, shapes: Shapes, *, input_wh: tuple[int, int], classes: int) -> None:
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][:2] != (1, 5 + classes):
            raise refuse("fastestdet", shapes, f"one of [1, {5 + classes}, h, w]")
        self._rows, self._columns = shapes[0][2:]
        self._grid = np.array((self._columns, self._rows), np.float32)
        self._input = np.array(input_wh, np.float32)

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        channels = outputs[0][0].reshape(-1, self._rows * self._columns)
        # No class exceeds 1, so an objectness below this bound cannot reach the threshold.
        kept = np.flatnonzero(channels[0] >= score ** (1 / 0.6))
        rows = channels[:, kept].T
        class_ids, class_scores = best_class(rows[:, 5:])
        scores = rows[:, 0] ** np.float32(0.6) * class_scores ** np.float32(0.4)
        strong = scores >= score
        rows, kept = rows[strong], kept[strong]
        cell = np.stack((kept % self._columns, kept // self._columns), axis=1).astype(np.float32)
        centre = (cell + np.tanh(rows[:, 1:3])) / self._grid * self._input
        size = squash(rows[:, 3:5]) * self._input
        return Candidates(corners(centre, size), scores[strong], class_ids[strong])
