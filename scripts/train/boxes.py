"""Overlap of boxes in NumPy; xyxy, as everywhere in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def area(boxes: Boxes) -> NDArray[np.float32]:
    """(N,4) to (N,); 0 for a box turned inside out."""
    size = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    product: NDArray[np.float32] = size[:, 0] * size[:, 1]
    return product


def pairwise_iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """(N,4), (G,4) to (N,G)."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(-1)
    found: NDArray[np.float32] = inter / np.maximum(area(a)[:, None] + area(b) - inter, 1e-6)
    return found
