"""Decoders of YuNet, UltraFace, FastestDet and NanoDet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    NOTHING,
    Array,
    Candidates,
    Shapes,
    best_class,
    cells,
    corners,
    refuse,
)


class YuNet:
    """Per level cls, obj, bbox (4) and kps (2 K), each [1, n, ·], in that order of kinds.

    score = √(cls × obj); centre = (cell + d) × stride, size = exp(d) × stride; keypoint
    = (cell + d) × stride. Source: ShiqiYu/libfacedetection.train; OpenCV ``FaceDetectorYN``.
    """

    needs_nms = True

    def __init__(
        self, shapes: Shapes, *, input_wh: tuple[int, int], strides: Sequence[int]
    ) -> None:
        self._levels = len(strides)
        counts = [len(cells(input_wh, (stride,))[0]) for stride in strides]
        expected = [(1, n, width) for width in (1, 1, 4, 10) for n in counts]
        if list(shapes) != expected:
            raise refuse("yunet", shapes, f"cls, obj, bbox and kps: {[list(s) for s in expected]}")
        self._cells, self._strides = cells(input_wh, strides)

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        levels = self._levels
        cls, obj, bbox, kps = (
            np.concatenate([out[0] for out in outputs[kind * levels : (kind + 1) * levels]])
            for kind in range(4)
        )
        product: Array = np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1)
        kept = (product >= score * score).nonzero()[0]
        cell, stride, raw = self._cells[kept], self._strides[kept], bbox[kept]
        size = np.exp(raw[:, 2:]) * stride
        points = kps[kept].reshape(len(kept), kps.shape[1] // 2, 2)
        return Candidates(
            corners((raw[:, :2] + cell) * stride, size),
            np.sqrt(product[kept]),
            np.zeros(len(kept), np.intp),
            (points + cell[:, None]) * stride[:, None],
        )


class UltraFace:
    """scores [1, N, 2] after the softmax (column 1 is face), boxes [1, N, 4] as parts of 1."""

    needs_nms = True

    def __init__(self, shapes: Shapes, *, input_wh: tuple[int, int]) -> None:
        if (
            len(shapes) != 2
            or any(len(shape) != 3 for shape in shapes)
            or (shapes[0][2], shapes[1][2]) != (2, 4)
            or shapes[0][1] != shapes[1][1]
        ):
            raise refuse("ultraface", shapes, "scores [1, N, 2] and boxes [1, N, 4]")
        self._scale = np.array(input_wh * 2, np.float32)

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        scores = outputs[0][0, :, 1]
        kept = (scores >= score).nonzero()[0]
        return Candidates(
            outputs[1][0][kept] * self._scale, scores[kept], np.zeros(len(kept), np.intp)
        )


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
