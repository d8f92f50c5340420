"""Makes one training sample from photographs.

Mosaic of four, zoom in and out, aspect jitter, mirror, light and gray. The generator given decides
all: the same seed, the same sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from scripts.train.data import Boxes, Labels, Picture, Pixels, area

PAD = 114
LEAST_PX = 2.5  # a box thinner than this is ignored, not learned
LEAST_SEEN = 0.3  # of a box's area; less of it in the picture is ignored
FORGOTTEN = 0.02  # of a box's area; less of it is nothing
MOSAIC, GRAY, LIGHT = 0.35, 0.1, 0.5  # how often
ZOOM, ZOOM_OF_FOUR = (0.55, 1.9), (0.7, 2.0)  # relative to a picture fitted into its region
ASPECT = 0.12  # logarithm


def sample(
    pictures: Sequence[Picture], chosen: Sequence[int], *, size_hw: tuple[int, int], rng: Generator
) -> tuple[Pixels, Labels]:
    """(h,w,3) and its labels, of the first of the pictures ``chosen`` or of all four."""
    h, w = size_hw
    canvas = np.full((h, w, 3), PAD, np.uint8)
    if rng.random() < MOSAIC:
        x, y = round(w * rng.uniform(0.35, 0.65)), round(h * rng.uniform(0.35, 0.65))
        regions = [(0, 0, x, y), (x, 0, w, y), (0, y, x, h), (x, y, w, h)]
        parts = [
            _place(canvas, region, pictures[i], rng, zoom=ZOOM_OF_FOUR)
            for region, i in zip(regions, chosen, strict=True)
        ]
        labels = Labels.join(parts)
    else:
        labels = _place(canvas, (0, 0, w, h), pictures[chosen[0]], rng, zoom=ZOOM)
    if rng.random() < LIGHT:
        gain, shift = rng.uniform(0.7, 1.35), rng.uniform(-25, 25)
        levels = np.clip(np.arange(256) * gain + shift, 0, 255).astype(np.uint8)
        canvas = np.asarray(cv2.LUT(canvas, levels), np.uint8)
    if rng.random() < GRAY:
        canvas[:] = cv2.cvtColor(canvas, cv2.COLOR_BGR2GRAY)[..., None]
    return canvas, labels


def _place(
    canvas: Pixels,
    region: tuple[int, int, int, int],
    picture: Picture,
    rng: Generator,
    *,
    zoom: tuple[float, float],
) -> Labels:
    """Draw a zoomed, perhaps mirrored picture into ``region``; its labels in the canvas."""
    x0, y0, x1, y1 = region
    wide, high = x1 - x0, y1 - y0
    pixels = picture.pixels()
    height, width = pixels.shape[:2]
    scale = min(high / height, wide / width) * math.exp(rng.uniform(*np.log(zoom)))
    stretch = math.exp(rng.uniform(-ASPECT, ASPECT))
    w, h = max(1, round(width * scale * stretch)), max(1, round(height * scale / stretch))
    # what is larger than the region covers it, what is smaller lies in it
    left = rng.uniform(min(0, wide - w), max(0, wide - w))
    top = rng.uniform(min(0, high - h), max(0, high - h))
    mirrored = rng.random() < 0.5
    if scale < 0.6:  # warpAffine does not average
        pixels = np.asarray(cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    across, down = w / pixels.shape[1], h / pixels.shape[0]
    matrix = np.array(
        [[-across if mirrored else across, 0, left + w * mirrored], [0, down, top]], np.float32
    )
    canvas[y0:y1, x0:x1] = cv2.warpAffine(
        pixels, matrix, (wide, high), flags=cv2.INTER_LINEAR, borderValue=(PAD,) * 3
    )
    factor = np.array([w / width, h / height] * 2, np.float32)

    def moved(boxes: Boxes) -> Boxes:
        boxes = boxes * factor
        if mirrored:
            boxes = np.stack([w - boxes[:, 2], boxes[:, 1], w - boxes[:, 0], boxes[:, 3]], 1)
        return boxes + np.array([left + x0, top + y0] * 2, np.float32)

    return _clip(picture.labels, moved, region)


def _clip(
    labels: Labels, moved: Callable[[Boxes], Boxes], region: tuple[int, int, int, int]
) -> Labels:
    """Boxes moved and cut at the region; what is barely inside is ignored from then on."""
    low, high = np.array(region[:2] * 2), np.array(region[2:] * 2)

    def cut(boxes: Boxes) -> tuple[Boxes, NDArray[np.bool_], NDArray[np.bool_]]:
        whole = moved(boxes)
        part = np.clip(whole, low, high).astype(np.float32)
        seen = area(part) / np.maximum(area(whole), 1e-6)
        thin = (part[:, 2:] - part[:, :2]).min(axis=1, initial=np.inf) <= LEAST_PX
        good = (seen > LEAST_SEEN) & ~thin
        return part, good, ~good & (seen > FORGOTTEN)

    boxes, good, edge = cut(labels.boxes)
    faces, good_faces, edge_faces = cut(labels.faces)
    ignored, good_ignored, edge_ignored = cut(labels.ignored)
    still = good_ignored | edge_ignored
    face_id = labels.scores.shape[1]
    return Labels(
        boxes[good],
        labels.scores[good],
        faces[good_faces],
        np.concatenate([ignored[still], boxes[edge], faces[edge_faces]]),
        np.concatenate(
            [
                labels.ignored_ids[still],
                labels.scores[edge].argmax(1),
                np.full(int(edge_faces.sum()), face_id),
            ]
        ),
        labels.settled,
    )
