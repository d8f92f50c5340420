"""How do NanoDet's outputs become boxes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders.common import NOTHING, Candidates, Shapes, best_class, cells, refuse


class NanoDet:
    """Per level [1, n, C] class scores, then per level [1, n, 4 (reg_max + 1)] distances.

    A distance is the expectation over 0..reg_max of a softmax (generalised focal loss), times the
    stride; the four are left, top, right, bottom from the cell's centre (column + ½, row + ½)
    × stride − ½, the half pixel as upstream has it. Source: RangiLyu/nanodet, ``gfl_head``.
    """

    needs_nms = True

    def __init__(
        self,
        shapes: Shapes,
        *,
        input_wh: tuple[int, int],
        classes: int,
        strides: Sequence[int],
        reg_max: int,
    ) -> None:
        self._levels = len(strides)
        counts = [len(cells(input_wh, (stride,))[0]) for stride in strides]
        expected = [(1, n, classes) for n in counts] + [(1, n, 4 * (reg_max + 1)) for n in counts]
        if list(shapes) != expected:
            raise refuse("nanodet", shapes, f"{[list(shape) for shape in expected]}")
        positions, self._strides = cells(input_wh, strides)
        self._centres = positions * self._strides + np.float32(0.5) * (self._strides - 1)
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        self._bins = np.arange(reg_max + 1, dtype=np.float32)

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        kept, class_ids, scores, raw = [], [], [], []
        for level, start in enumerate(self._starts):
            level_scores = outputs[level][0]
            rows = (level_scores.max(axis=1) >= score).nonzero()[0]
            if len(rows):
                best, best_scores = best_class(level_scores[rows])
                kept.append(rows + start)
                class_ids.append(best)
                scores.append(best_scores)
                raw.append(outputs[level + self._levels][0][rows])
        if not kept:
            return NOTHING
        index = np.concatenate(kept)
        logits = np.concatenate(raw).reshape(len(index), 4, len(self._bins))
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        distance = (weights @ self._bins) / weights.sum(axis=2) * self._strides[index]
        centre = self._centres[index]
        xyxy = np.concatenate((centre - distance[:, :2], centre + distance[:, 2:]), axis=1)
        return Candidates(xyxy, np.concatenate(scores), np.concatenate(class_ids))
