"""How do raw network outputs become detections in source pixels?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.decoders import make_decoder
from app.backends.decoders.common import Shapes
from app.backends.nms import nms
from app.detections import Detections
from app.letterbox import Placement
from app.model_spec import ModelSpec

MAX_DETECTIONS = 300


class Postprocessor:
    """Decode, threshold, NMS, map to source pixels, clip. Safe to share between threads."""

    def __init__(self, spec: ModelSpec, shapes: Shapes, *, score: float, iou: float) -> None:
        self._decode = make_decoder(spec, shapes)
        self._score, self._iou = score, iou
        self._classes = len(spec.labels)

    def __call__(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        """Outputs in graph order for one frame. Boxes without area in the frame are left out."""
        # Garbage from a network may overflow; what is not a number is sorted out below.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._finish(outputs, placement)

    def _finish(self, outputs: Sequence[NDArray[Any]], placement: Placement) -> Detections:
        found = self._decode(outputs, self._score)
        if not len(found.scores):
            return Detections.empty()
        if self._decode.needs_nms:
            kept = nms(found.xyxy, found.scores, found.class_ids, iou=self._iou)
        else:
            kept = np.argsort(-found.scores, kind="stable")
        xyxy = placement.to_source(found.xyxy[kept].reshape(-1, 2, 2)).reshape(-1, 4)
        # NaN compares false, so a box that is not a number goes too
        solid = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        solid &= found.class_ids[kept] < self._classes
        kept, xyxy = kept[solid][:MAX_DETECTIONS], xyxy[solid][:MAX_DETECTIONS]
        keypoints = None if found.keypoints is None else placement.to_source(found.keypoints[kept])
        return Detections(
            xyxy,
            found.scores[kept].astype(np.float32),
            found.class_ids[kept].astype(np.int32),
            keypoints,
        )
