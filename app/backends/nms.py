"""Which boxes survive when several say the same? Class-aware greedy NMS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 1000  # the strongest so many are looked at; bounds the worst case


def nms(
    xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.intp],
    *,
    iou: float,
) -> NDArray[np.intp]:
    """Indices of the kept boxes, by falling score; equal scores keep their order.

    A box goes when a stronger kept box of its class overlaps it by more than ``iou``. The whole
    matrix of overlaps is computed at once; only the greedy choice itself is a loop, over the
    survivors of the threshold.
    """
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    if len(order) < 2:
        return order
    boxes = xyxy[order]
    left_top, right_bottom = boxes[:, :2], boxes[:, 2:]
    overlap = np.minimum(right_bottom[:, None], right_bottom) - np.maximum(
        left_top[:, None], left_top
    )
    np.maximum(overlap, 0, out=overlap)
    intersection = overlap[..., 0] * overlap[..., 1]
    area = np.prod(np.maximum(right_bottom - left_top, 0), axis=1)
    # intersection / union > iou, without a division by an empty union
    rival = intersection > iou * (area[:, None] + area - intersection)
    ids = class_ids[order]
    rival &= ids[:, None] == ids
    keep = np.ones(len(order), bool)
    for i in np.flatnonzero(rival.sum(axis=1) > 1):
        if keep[i]:
            keep[i + 1 :] &= ~rival[i, i + 1 :]
    return order[keep]
