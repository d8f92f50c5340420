"""An independent, plain decode of each family: one anchor at a time, no code of the product.

Written from the notes of the models' authors, for agreement tests. Slow on purpose.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np


class Box(NamedTuple):
    label_id: int
    score: float
    xyxy: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float], ...] = ()


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two xyxy boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    inner = w * h
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def suppress(boxes: list[Box], iou: float) -> list[Box]:
    """Greedy NMS within each class, boxes by falling score."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        rivals = (k for k in kept if k.label_id == box.label_id)
        if all(overlap(box.xyxy, rival.xyxy) <= iou for rival in rivals):
            kept.append(box)
    return kept


def letterboxed(
    frame: Any, size: tuple[int, int], pad: int, *, centred: bool
) -> tuple[Any, float, int, int]:
    """Picture in an input of ``size``, its ratio and its offset."""
    h, w = frame.shape[:2]
    ratio = min(size[0] / w, size[1] / h)
    nw, nh = round(w * ratio), round(h * ratio)
    canvas = np.full((size[1], size[0], 3), pad, np.uint8)
    x, y = ((size[0] - nw) // 2, (size[1] - nh) // 2) if centred else (0, 0)
    canvas[y : y + nh, x : x + nw] = cv2.resize(frame, (nw, nh), interpolation=cv2.INTER_LINEAR)
    return canvas, ratio, x, y


def chw(picture: Any) -> Any:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None].astype(np.float32))


def clip(box: Box, w: int, h: int) -> Box:
    x0, y0, x1, y1 = box.xyxy
    return box._replace(xyxy=(max(0, x0), max(0, y0), min(w, x1), min(h, y1)))


def detect(name: str, session: Any, frame: Any, score: float, iou: float) -> list[Box]:
    """Boxes of model ``name`` (a name of the asset manifest) in source pixels."""
    h, w = frame.shape[:2]
    found = _FAMILIES[name.rsplit("_", 1)[0]](session, frame, score)
    return [clip(b, w, h) for b in suppress(found, iou)]


def _yolox(session: Any, frame: Any, score: float) -> list[Box]:
    side = session.get_inputs()[0].shape[2]
    picture, ratio, _, _ = letterboxed(frame, (side, side), 114, centred=False)
    rows = session.run(None, {session.get_inputs()[0].name: chw(picture)})[0][0]
    anchors = [(x, y, s) for s in (8, 16, 32) for y in range(side // s) for x in range(side // s)]
    boxes = []
    for row, (x, y, s) in zip(rows, anchors, strict=True):
        best = int(np.argmax(row[5:]))
        p = float(row[4] * row[5 + best])
        if p < score:
            continue
        cx, cy = (row[0] + x) * s, (row[1] + y) * s
        bw, bh = math.exp(row[2]) * s, math.exp(row[3]) * s
        xyxy = (cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2)
        boxes.append(Box(best, p, tuple(float(v) / ratio for v in xyxy)))
    return boxes


def _nanodet(session: Any, frame: Any, score: float) -> list[Box]:
    picture, ratio, ox, oy = letterboxed(frame, (320, 320), 0, centred=True)
    mean, std = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    outputs = session.run(None, {session.get_inputs()[0].name: chw((picture - mean) / std)})
    boxes = []
    for level, stride in enumerate((8, 16, 32)):
        side = 320 // stride
        for i in range(side * side):
            classes, logits = outputs[level][0, i], outputs[level + 3][0, i]
            best = int(np.argmax(classes))
            if classes[best] < score:
                continue
            cx = (i % side) * stride + 0.5 * (stride - 1)
            cy = (i // side) * stride + 0.5 * (stride - 1)
            sides = []
            for k in range(4):
                bins = [math.exp(v) for v in logits[8 * k : 8 * k + 8]]
                sides.append(sum(j * v for j, v in enumerate(bins)) / sum(bins) * stride)
            left, top, right, bottom = sides
            xyxy = (cx - left - ox, cy - top - oy, cx + right - ox, cy + bottom - oy)
            boxes.append(Box(best, float(classes[best]), tuple(v / ratio for v in xyxy)))
    return boxes


def _fastestdet(session: Any, frame: Any, score: float) -> list[Box]:
    h, w = frame.shape[:2]
    picture = cv2.resize(frame, (352, 352)).astype(np.float32) / 255
    out = session.run(None, {session.get_inputs()[0].name: chw(picture)})[0][0]
    boxes = []
    for y in range(22):
        for x in range(22):
            cell = out[:, y, x]
            best = int(np.argmax(cell[5:]))
            p = float(cell[0]) ** 0.6 * float(cell[5 + best]) ** 0.4
            if p < score:
                continue
            cx, cy = (x + math.tanh(cell[1])) / 22, (y + math.tanh(cell[2])) / 22
            bw, bh = 1 / (1 + math.exp(-cell[3])), 1 / (1 + math.exp(-cell[4]))
            boxes.append(
                Box(
                    best,
                    p,
                    ((cx - bw / 2) * w, (cy - bh / 2) * h, (cx + bw / 2) * w, (cy + bh / 2) * h),
                )
            )
    return boxes


def _yunet(session: Any, frame: Any, score: float, size: tuple[int, int] = (320, 320)) -> list[Box]:
    picture, ratio, ox, oy = letterboxed(frame, size, 0, centred=False)
    outputs = session.run(None, {session.get_inputs()[0].name: chw(picture)})
    boxes = []
    for level, s in enumerate((8, 16, 32)):
        columns = size[0] // s
        for i in range(len(outputs[level][0])):
            p = math.sqrt(float(outputs[level][0, i, 0]) * float(outputs[level + 3][0, i, 0]))
            if p < score:
                continue
            x, y = i % columns, i // columns
            dx, dy, dw, dh = (float(v) for v in outputs[level + 6][0, i])
            cx, cy, bw, bh = (x + dx) * s, (y + dy) * s, math.exp(dw) * s, math.exp(dh) * s
            k = outputs[level + 9][0, i]
            points = tuple(
                (float((k[2 * j] + x) * s - ox) / ratio, float((k[2 * j + 1] + y) * s - oy) / ratio)
                for j in range(5)
            )
            xyxy = (cx - bw / 2 - ox, cy - bh / 2 - oy, cx + bw / 2 - ox, cy + bh / 2 - oy)
            boxes.append(Box(0, p, tuple(v / ratio for v in xyxy), points))
    return boxes


def _yunet_dynamic(session: Any, frame: Any, score: float) -> list[Box]:
    return _yunet(session, frame, score, (640, 384))


def _ultraface(session: Any, frame: Any, score: float) -> list[Box]:
    h, w = frame.shape[:2]
    rgb = cv2.cvtColor(cv2.resize(frame, (320, 240)), cv2.COLOR_BGR2RGB).astype(np.float32)
    scores, corners = session.run(None, {session.get_inputs()[0].name: chw((rgb - 127) / 128)})
    boxes = []
    for (_, p), (x0, y0, x1, y1) in zip(scores[0], corners[0], strict=True):
        if p >= score:
            boxes.append(Box(0, float(p), (x0 * w, y0 * h, x1 * w, y1 * h)))
    return boxes


_FAMILIES = {
    "yolox_nano": _yolox,
    "light_person": _yolox,
    "nanodet_m": _nanodet,
    "fastestdet": _fastestdet,
    "yunet_n_320": _yunet,
    "yunet_n": _yunet_dynamic,
    "ultraface_rfb": _ultraface,
}
