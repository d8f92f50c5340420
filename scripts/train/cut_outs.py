"""Which people can be cut out of their photograph and pasted into another?

Boxes are all that a set has; GrabCut (Rother et al. 2004) finds the outline inside a box. Only
large, sure boxes with a plausible outline are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from scripts.train.augment import CutOut
from scripts.train.data import Labels, Picture

WORK_PX = 128  # GrabCut runs at this height: quick, and fine enough for an outline
LEAST_HEIGHT_PX = 100
FILL = (0.3, 0.85)  # share of the box that a person covers


def find_cut_outs(
    pictures: Sequence[Picture], *, class_id: int, most: int, seed: int
) -> list[CutOut]:
    """At most ``most`` cut-outs of class ``class_id`` from pictures with one large object of it."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    candidates = (c for i in order for c in _candidates(pictures[i], class_id))
    with ThreadPoolExecutor() as pool:
        chosen = [c for _, c in zip(range(2 * most), candidates, strict=False)]
        found = [c for c in pool.map(lambda c: _cut(*c), chosen) if c is not None]
    return found[:most]


def _candidates(picture: Picture, class_id: int) -> Iterator[tuple[Picture, int]]:
    labels = picture.labels
    mine = np.flatnonzero((labels.class_ids == class_id) & ~labels.ignored)
    if len(mine) != 1 or labels.weights[mine[0]] < 0.95:
        return
    x0, y0, x1, y1 = labels.boxes[mine[0]]
    width = picture.pixels.shape[1]
    inside = x0 > 2 and x1 < width - 2 and y0 > 2
    if inside and y1 - y0 >= LEAST_HEIGHT_PX:
        yield picture, int(mine[0])


def _cut(picture: Picture, row: int) -> CutOut | None:
    labels = picture.labels
    x0, y0, x1, y1 = labels.boxes[row].round().astype(int)
    margin = max(4, (x1 - x0) // 8)  # background that GrabCut learns from
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    view = picture.pixels[top : y1 + margin, left : x1 + margin]
    factor = WORK_PX / view.shape[0]
    small = cv2.resize(view, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    rectangle = [int(v * factor) for v in (x0 - left, y0 - top, x1 - x0, y1 - y0)]
    if min(rectangle[2:]) < 8 or rectangle[2] >= small.shape[1] - 1:
        return None
    mask = np.zeros(small.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(small, mask, rectangle, *models, 3, cv2.GC_INIT_WITH_RECT)
    person = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(person)
    if count < 2:
        return None
    person = (parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8) * 255
    person = np.asarray(cv2.resize(person, (view.shape[1], view.shape[0])), np.uint8)
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    filled = float((person[inner] > 127).mean())
    if not FILL[0] <= filled <= FILL[1]:
        return None
    soft = np.asarray(cv2.GaussianBlur(person, (0, 0), 1.0), np.uint8)[inner]
    centres = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    within = ((centres > [x0, y0]) & (centres < [x1, y1])).all(axis=1)
    own = labels.select(within)
    boxes = own.boxes - np.array([x0, y0, x0, y0], np.float32)
    for a, b, c, d in boxes.clip(min=0).astype(int):
        if (soft[b:d, a:c] > 127).mean() < 0.4:  # a face, say, that the outline lost
            return None
    return CutOut(view[inner].copy(), soft, Labels(boxes, own.class_ids, own.weights, own.ignored))
