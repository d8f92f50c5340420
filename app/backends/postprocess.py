"""How do raw network outputs become detections in source pixels?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders import make_decoder
from app.backends.decoders.common import Candidates, Shapes
from app.backends.few import HUGE_PX, MOST, finish_few
from app.backends.nms import nms
from app.backends.sanity import Sanity
from app.detections import Detections
from app.letterbox import Placement
from app.model_spec import ModelSpec

MAX_DETECTIONS = 300


@dataclass(slots=True)
class Limits:
    """Thresholds, which may change between two frames; any thread."""

    score: float
    iou: float

    def tune(self, *, score: float, iou: float) -> None:
        """Others from the next frame on."""
        self.score, self.iou = score, iou


class Postprocessor:
    """Decode, threshold, NMS, map to source pixels, clip. Safe to share between threads."""

    def __init__(
        self, spec: ModelSpec, shapes: Shapes, limits: Limits, sanity: Sanity | None = None
    ) -> None:
        """``sanity``: that of a slot whose frames go through several of these."""
        self._decode, self._limits = make_decoder(spec, shapes), limits
        self.sanity = sanity or Sanity(spec.name)

    def __call__(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        """Outputs in graph order for one frame. Boxes without area in the frame are left out."""
        with overflow_ignored():
            return self.on_ready_thread(outputs, placement)

    def on_ready_thread(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        """The same on a thread that is in ``overflow_ignored`` anyway, which costs a frame less."""
        self.sanity.check(outputs)
        found = self._decode(outputs, self._limits.score)
        count = len(found.scores)
        if not count:
            return Detections.empty()
        if count <= MOST and found.keypoints is None:
            iou = self._limits.iou if self._decode.needs_nms else None
            return finish_few(found, placement, iou=iou)
        return self._finish_many(found, placement)

    def _finish_many(self, found: Candidates, placement: Placement) -> Detections:
        size = found.xyxy[:, 2:] - found.xyxy[:, :2]
        sound = (size > 0) & (size < HUGE_PX)  # false for NaN, too
        if not sound.all():
            found = found.of(np.flatnonzero(sound.all(axis=1)))
        if self._decode.needs_nms:
            kept = nms(found.xyxy, found.scores, found.class_ids, iou=self._limits.iou)
        else:
            kept = (-found.scores).argsort(kind="stable")
        return in_source(found.of(kept[:MAX_DETECTIONS]), placement)


def overflow_ignored() -> np.errstate:
    """Garbage from a network may overflow; unsound boxes are sorted out."""
    return np.errstate(over="ignore", invalid="ignore")


def in_source(found: Candidates, placement: Placement) -> Detections:
    """The boxes that survived, by falling score, in source pixels; those in the padding go."""
    xyxy: NDArray[np.float32] = placement.to_source(found.xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
    inside = xyxy[:, 2:] > xyxy[:, :2]
    if not inside.all():  # it lay in the padding
        kept = np.flatnonzero(inside.all(axis=1))
        xyxy, found = xyxy[kept], found.of(kept)
    keypoints = None if found.keypoints is None else placement.to_source(found.keypoints)
    return Detections(
        xyxy,
        found.scores.astype(np.float32, copy=False),
        found.class_ids.astype(np.int32),
        keypoints,
    )
