"""How do the outputs of the face detectors YuNet and UltraFace become boxes?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders.common import Array, Candidates, Shapes, cells, corners, refuse


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
