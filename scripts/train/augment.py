"""How does one training sample come to be from several photographs?

Mosaic of four, zoom in and out, aspect jitter, mirror, pasted cut-outs of people, colour, gray,
blur and noise. Each function takes the generator that decides: the same seed, the same sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from scripts.train.data import Labels, Picture, Pixels

PAD = 114
LEAST_PX = 4.0  # boxes smaller than this are ignored, not learned
LEAST_SEEN = 0.3  # of a box's area; less of it in the picture is ignored
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How strongly to augment; probabilities 0..1, ``zoom`` relative to a letterboxed picture.

    Far zooms show things without anybody; blends (mixup) are pictures that nobody took: both teach
    what is not a person, of which a set of people has few examples.
    """

    mosaic: float = 0.6
    zoom: tuple[float, float] = (0.4, 3.5)
    aspect: float = 0.15
    paste: float = 0.3
    blend: float = 0.25
    hue: float = 6.0
    saturation: float = 0.6
    value: float = 0.4
    gray: float = 0.12
    blur: float = 0.08
    noise: float = 0.08


GENTLE = Recipe(
    mosaic=0.0, zoom=(0.75, 1.5), aspect=0.08, paste=0.0, blend=0.0, saturation=0.4, value=0.3
)


@dataclass(frozen=True, slots=True)
class CutOut:
    """A person cut out along the outline: ``pixels`` (h,w,3), ``mask`` (h,w) 0..1, own labels."""

    pixels: Pixels
    mask: Pixels
    labels: Labels


def sample(
    pictures: Sequence[Picture],
    index: int,
    *,
    size: int,
    rng: Generator,
    recipe: Recipe,
    cut_outs: Sequence[CutOut] = (),
) -> tuple[Pixels, Labels]:
    """One (size,size,3) picture around ``pictures[index]`` and its labels, in its pixels."""
    pixels, labels = _compose(pictures, index, size, rng, recipe)
    if rng.random() < recipe.blend:
        other, more = _compose(pictures, int(rng.integers(len(pictures))), size, rng, recipe)
        share = rng.uniform(0.35, 0.65)
        pixels = np.asarray(cv2.addWeighted(pixels, share, other, 1 - share, 0), np.uint8)
        labels = Labels.join([labels, more])
    if cut_outs and rng.random() < recipe.paste:
        for _ in range(rng.integers(1, 4)):
            labels = _paste(pixels, labels, cut_outs[int(rng.integers(len(cut_outs)))], rng)
    return pixels, labels


def _compose(
    pictures: Sequence[Picture], index: int, size: int, rng: Generator, recipe: Recipe
) -> tuple[Pixels, Labels]:
    """A mosaic of four pictures, or one alone."""
    canvas = np.full((size, size, 3), PAD, np.uint8)
    if rng.random() < recipe.mosaic:
        cx, cy = (int(size * rng.uniform(0.3, 0.7)) for _ in "xy")
        regions = [(0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size)]
        chosen = [index, *rng.integers(len(pictures), size=3)]
        rng.shuffle(chosen)
    else:
        regions, chosen = [(0, 0, size, size)], [index]
    parts = [
        _place(canvas, region, pictures[i], size, rng, recipe)
        for region, i in zip(regions, chosen, strict=True)
    ]
    return canvas, Labels.join(parts)


def _place(
    canvas: Pixels,
    region: tuple[int, int, int, int],
    picture: Picture,
    size: int,
    rng: Generator,
    recipe: Recipe,
) -> Labels:
    """Draw a zoomed, perhaps mirrored picture at a random place of ``region``; its labels there."""
    x0, y0, x1, y1 = region
    height, width = picture.pixels.shape[:2]
    zoom = size / max(width, height) * np.exp(rng.uniform(*np.log(recipe.zoom)))
    stretch = np.exp(rng.uniform(-recipe.aspect, recipe.aspect))
    w = max(8, round(width * zoom * stretch))
    h = max(8, round(height * zoom / stretch))
    pixels = cv2.resize(picture.pixels, (w, h), interpolation=int(rng.choice(INTERPOLATIONS)))
    scale = np.array([w / width, h / height, w / width, h / height], np.float32)
    boxes = picture.labels.boxes * scale
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes = np.stack([w - boxes[:, 2], boxes[:, 1], w - boxes[:, 0], boxes[:, 3]], 1)
    # a picture smaller than its region lies anywhere in it, a larger one shows any part
    left, top = round(rng.random() * (x1 - x0 - w)) + x0, round(rng.random() * (y1 - y0 - h)) + y0
    u0, v0, u1, v1 = max(x0, left), max(y0, top), min(x1, left + w), min(y1, top + h)
    seen = pixels[v0 - top : v1 - top, u0 - left : u1 - left]
    canvas[v0:v1, u0:u1] = _colour(np.ascontiguousarray(seen), rng, recipe)
    moved = boxes + np.array([left, top, left, top], np.float32)
    labels = picture.labels
    return _clip(Labels(moved, labels.class_ids, labels.weights, labels.ignored), (u0, v0, u1, v1))


def _area(boxes: np.ndarray) -> np.ndarray:
    size = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    area: np.ndarray = size[:, 0] * size[:, 1]
    return area


def _clip(labels: Labels, region: tuple[int, int, int, int]) -> Labels:
    """Cut the boxes at the region; forget what is outside, ignore what is barely inside."""
    low, high = np.array(region[:2] * 2), np.array(region[2:] * 2)
    boxes = np.clip(labels.boxes, low, high).astype(np.float32)
    seen = _area(boxes) / np.maximum(_area(labels.boxes), 1e-6)
    small = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) < LEAST_PX
    clipped = Labels(
        boxes,
        labels.class_ids,
        labels.weights,
        labels.ignored | (seen < LEAST_SEEN) | small,
    )
    return clipped.select(_area(boxes) > 0)


def _paste(canvas: Pixels, labels: Labels, cut_out: CutOut, rng: Generator) -> Labels:
    """Put a person over the picture; what it hides almost wholly is ignored from then on."""
    size = canvas.shape[0]
    tall, wide = cut_out.mask.shape
    factor = size * np.exp(rng.uniform(np.log(0.15), np.log(0.9))) / tall
    w, h = max(6, round(wide * factor)), max(12, round(tall * factor))
    pixels = cv2.resize(cut_out.pixels, (w, h), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(cut_out.mask, (w, h), interpolation=cv2.INTER_LINEAR)
    boxes = cut_out.labels.boxes * np.array([w / wide, h / tall] * 2, np.float32)
    if rng.random() < 0.5:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        boxes = np.stack([w - boxes[:, 2], boxes[:, 1], w - boxes[:, 0], boxes[:, 3]], 1)
    left = int(rng.integers(-w // 4, max(1, size - w * 3 // 4)))
    top = int(rng.integers(-h // 8, max(1, size - h * 3 // 4)))
    u0, v0, u1, v1 = max(0, left), max(0, top), min(size, left + w), min(size, top + h)
    window = np.s_[v0 - top : v1 - top, u0 - left : u1 - left]
    alpha = mask[window][..., None].astype(np.float32) / 255
    under = canvas[v0:v1, u0:u1]
    canvas[v0:v1, u0:u1] = (pixels[window] * alpha + under * (1 - alpha) + 0.5).astype(np.uint8)
    own = cut_out.labels
    offset = np.array([left, top, left, top], np.float32)
    added = _clip(
        Labels(boxes + offset, own.class_ids, own.weights, own.ignored), (0, 0, size, size)
    )
    inner = np.clip(labels.boxes, [u0, v0, u0, v0], [u1, v1, u1, v1])
    hidden = _area(inner) > 0.6 * _area(labels.boxes)
    kept = Labels(labels.boxes, labels.class_ids, labels.weights, labels.ignored | hidden)
    return Labels.join([kept, added])


def _colour(pixels: Pixels, rng: Generator, recipe: Recipe) -> Pixels:
    """Hue (degrees of 180), saturation and value gains; at times gray, blurred or noisy."""
    draw = rng.uniform(-1, 1, 3)
    levels = np.arange(256, dtype=np.float32)
    hue = ((levels + draw[0] * recipe.hue) % 180).astype(np.uint8)
    saturation = np.clip(levels * (1 + draw[1] * recipe.saturation), 0, 255).astype(np.uint8)
    value = np.clip(levels * (1 + draw[2] * recipe.value), 0, 255).astype(np.uint8)
    h, s, v = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV))
    channels = [cv2.LUT(h, hue), cv2.LUT(s, saturation), cv2.LUT(v, value)]
    pixels = np.asarray(cv2.cvtColor(cv2.merge(channels), cv2.COLOR_HSV2BGR), np.uint8)
    chance = rng.random(3)
    if chance[0] < recipe.gray:
        gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        pixels = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    if chance[1] < recipe.blur:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.5)), np.uint8)
    if chance[2] < recipe.noise:
        grain = rng.normal(0, rng.uniform(2, 10), pixels.shape[:2])[..., None]
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return pixels
