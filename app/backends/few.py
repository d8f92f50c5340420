"""What becomes of a handful of candidates? The same as of many, in plain Python.

A frame's postprocessing comes right after the network has filled the caches with itself: the first
call of each NumPy function then costs ten times what a repeated one does, and the vector form needs
some thirty of them. The interpreter is one piece of code: for few boxes this takes half the time.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np

from app.backends.decoders.common import Candidates
from app.detections import Detections
from app.letterbox import Placement

MOST = 24  # candidates: a person or two before NMS; the work may grow with their number's square
HUGE_PX = 1e6  # no box is so large; what is came from an overflow
Kept = tuple[float, float, float, float, int, float]  # corners, class, score


def finish_few(found: Candidates, placement: Placement, *, iou: float | None) -> Detections:
    """Sort, NMS by class unless ``iou`` is None, map to source pixels, clip; without keypoints."""
    rows = zip(found.scores.tolist(), found.xyxy.tolist(), found.class_ids.tolist(), strict=True)
    kept: list[Kept] = []
    for score, (x0, y0, x1, y1), class_id in sorted(rows, key=itemgetter(0), reverse=True):
        if not (0 < x1 - x0 < HUGE_PX and 0 < y1 - y0 < HUGE_PX):  # nor if one is NaN
            continue
        box = x0, y0, x1, y1, class_id, score
        if iou is None or not _suppressed(box, kept, iou):
            kept.append(box)
    return _in_source(kept, placement)


def _suppressed(box: Kept, kept: list[Kept], iou: float) -> bool:
    """Whether a stronger box of its class overlaps it by more than ``iou``."""
    x0, y0, x1, y1, class_id, _ = box
    for left, top, right, bottom, other_id, _ in kept:
        if class_id != other_id or x0 >= right or left >= x1 or y0 >= bottom or top >= y1:
            continue
        inner = (min(x1, right) - max(x0, left)) * (min(y1, bottom) - max(y0, top))
        if inner > iou * ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - inner):
            return True
    return False


def _in_source(kept: list[Kept], p: Placement) -> Detections:
    """Those that do not lie in the padding, in source pixels."""
    width, height = p.source_wh
    across, down = width / p.w, height / p.h
    boxes, scores, class_ids = [], [], []
    for x0, y0, x1, y1, class_id, score in kept:
        left, right = max((x0 - p.x) * across, 0.0), min((x1 - p.x) * across, width)
        top, bottom = max((y0 - p.y) * down, 0.0), min((y1 - p.y) * down, height)
        if right > left and bottom > top:
            boxes.append((left, top, right, bottom))
            scores.append(score)
            class_ids.append(class_id)
    if not boxes:
        return Detections.empty()
    return Detections(
        np.array(boxes, np.float32), np.array(scores, np.float32), np.array(class_ids, np.int32)
    )
