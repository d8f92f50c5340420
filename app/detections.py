"""What was found in one frame, and how long did finding it take?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.frame import Frame

# not the types: to compare with those NumPy makes a dtype of them each time
FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)


@dataclass(frozen=True, slots=True)
class Detections:
    """Parallel arrays, validated once here and trusted everywhere else.

    xyxy: (N, 4) float32, source pixels, origin top-left, right and bottom exclusive.
    scores: (N,) float32 in 0..1, falling. class_ids: (N,) int32.
    keypoints: (N, K, 2) float32 source pixels, or None where the model has none.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    keypoints: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        _check("xyxy", self.xyxy, (n, 4), FLOAT32)
        _check("scores", self.scores, (n,), FLOAT32)
        _check("class_ids", self.class_ids, (n,), INT32)
        kps = self.keypoints
        if kps is not None and (kps.ndim != 3 or kps.shape[0] != n or kps.shape[2] != 2):
            raise ValueError(f"keypoints must be ({n}, K, 2), is {kps.shape}")
        if n > 1 and not (self.scores[:-1] >= self.scores[1:]).all():
            raise ValueError("scores must be falling")

    def __len__(self) -> int:
        return len(self.scores)

    def without(self, labels: Sequence[str], hidden: Collection[str]) -> Detections:
        """Those whose label is not hidden; the same object where none is."""
        if not hidden or not len(self):
            return self
        gone = [i for i, label in enumerate(labels) if label in hidden]
        kept = ~np.isin(self.class_ids, gone)
        if kept.all():
            return self
        points = None if self.keypoints is None else self.keypoints[kept]
        return Detections(self.xyxy[kept], self.scores[kept], self.class_ids[kept], points)

    @staticmethod
    def empty() -> Detections:
        """No detections: always the same object, as an empty scene asks for it at every frame."""
        return _NOTHING


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {shape} {dtype}, is {array.shape} {array.dtype}")


_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class Result:
    """One processed frame as the sinks get it, in order.

    ``stages_ns`` maps a stage's name ("preprocess", "network", "postprocess", …) to nanoseconds.
    ``age_ns`` is now − captured at the moment the boxes were ready to leave the pipeline.
    """

    frame: Frame
    detections: Detections
    age_ns: int
    stages_ns: Mapping[str, int] = field(default_factory=dict)
