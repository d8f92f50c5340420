"""Zones, lines and detections drawn into a picture, in the geometry of app/core/overlay.py."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections, DrawnShape, Result
from ..core.masks import ObjectMask
from ..core.overlay import (
    SURE,
    TINT,
    OverlayStyle,
    Rgb,
    bones_of,
    captions,
    colour_of,
    place_tags,
    tagged,
    text_colour_on,
)
from ..core.text import printable

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 24.4  # a font of this size reads like OpenCV's, which is thin, at scale 1
_SHADE = (0, 0, 0)  # around bones, so that they show on a ground of their own colour


def draw_result(canvas: NDArray[np.uint8], result: Result, labels: Sequence[str]) -> None:
    """Zones and lines, and over them the detections; see ``draw_detections``."""
    draw_shapes(canvas, result.shapes)
    draw_detections(canvas, result.detections, labels)


def draw_shapes(canvas: NDArray[np.uint8], shapes: Sequence[DrawnShape]) -> None:
    """Zones and lines with their texts onto ``canvas``, (H, W, 3) uint8 BGR, in place."""
    if not shapes:
        return
    height, width = canvas.shape[:2]
    style = OverlayStyle.for_frame((width, height))
    line, scale = round(style.line), style.text / _FONT_PX
    for shape in shapes:
        points = _whole(np.asarray(shape.points, np.float32))
        cv2.polylines(canvas, [np.array(points)], shape.closed, shape.rgb[::-1], line, cv2.LINE_AA)
        text = _ascii(printable(shape.text))
        (w, h), base = cv2.getTextSize(text, _FONT, scale, max(1, line // 2))
        pad = round(style.pad_x)
        x = min(max(points[0][0] + pad, pad), max(pad, width - w - pad))
        y = min(max(points[0][1] - base, h + pad), height - base)
        ink = text_colour_on(shape.rgb)
        cv2.rectangle(canvas, (x - pad, y - h - pad), (x + w + pad, y + base), shape.rgb[::-1], -1)
        cv2.putText(canvas, text, (x, y), _FONT, scale, ink, max(1, line // 2), cv2.LINE_AA)


def draw_detections(
    canvas: NDArray[np.uint8], detections: Detections, labels: Sequence[str]
) -> None:
    """Masks, boxes, skeletons, labels and scores onto ``canvas``, (H, W, 3) uint8 BGR, in place."""
    height, width = canvas.shape[:2]
    style = OverlayStyle.for_frame((width, height))
    line = round(style.line)
    boxes = _whole(detections.xyxy)
    colours = [colour_of(each) for each in detections.class_ids.tolist()]
    worst_first = range(len(detections) - 1, -1, -1)  # the best one over the others
    if detections.masks is not None:
        for i in worst_first:
            _draw_mask(canvas, detections.masks[i], colours[i], line)
    corners = None if detections.polygons is None else _whole(detections.polygons)
    for i in worst_first:
        x0, y0, x1, y1 = boxes[i]
        if corners is not None:
            turned = [np.array(corners[i])]
            cv2.polylines(canvas, turned, True, colours[i][::-1], line, cv2.LINE_AA)
            continue
        # right and bottom are exclusive: the last pixel inside is one before
        corner = max(x0, x1 - 1), max(y0, y1 - 1)
        cv2.rectangle(canvas, (x0, y0), corner, colours[i][::-1], line)
    if detections.keypoints is not None:
        _draw_skeletons(canvas, detections, colours, style)
    scale, stroke = style.text / _FONT_PX, max(1, line // 2)
    texts = [_ascii(each) for each in captions(detections, labels)]
    extents = [cv2.getTextSize(text, _FONT, scale, stroke) for text in texts]
    sizes = [(w + 2 * style.pad_x, h + base + 2 * style.pad_y) for (w, h), base in extents]
    tags = place_tags(tagged(detections, boxes), sizes, (0, 0, width, height), style)
    for i in worst_first:
        if i in tags:
            x0, y0, x1, y1 = (round(side) for side in tags[i])
            cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), colours[i][::-1], cv2.FILLED)
            at = round(x0 + style.pad_x), round(y0 + style.pad_y) + extents[i][0][1]
            ink = text_colour_on(colours[i])
            cv2.putText(canvas, texts[i], at, _FONT, scale, ink, stroke, cv2.LINE_AA)


def _draw_mask(canvas: NDArray[np.uint8], mask: ObjectMask, rgb: Rgb, line: int) -> None:
    part = canvas[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width]
    inside = mask.pixels()[: part.shape[0], : part.shape[1]]
    ink = np.array(rgb[::-1], np.float32)
    part[inside] = part[inside] * np.float32(1 - TINT) + ink * np.float32(TINT)
    outlines = [np.array(_whole(each)) for each in mask.outlines]
    cv2.polylines(canvas, outlines, True, rgb[::-1], max(1, line // 2), cv2.LINE_AA)


def _draw_skeletons(
    canvas: NDArray[np.uint8], found: Detections, colours: Sequence[Rgb], style: OverlayStyle
) -> None:
    """Keypoints that are sure enough, and bones between two of them."""
    assert found.keypoints is not None
    line, radius, bones = round(style.line), round(style.point), bones_of(found.point_names)
    sure = (
        np.ones(found.keypoints.shape[:2])
        if found.keypoint_scores is None
        else found.keypoint_scores
    )
    shown = (sure >= SURE).tolist()
    for i, points in enumerate(_whole(found.keypoints)):
        ink = colours[i][::-1]
        drawn = [(points[a], points[b]) for a, b in bones if shown[i][a] and shown[i][b]]
        for shade, width in ((_SHADE, line + 2), (ink, line)):
            for a, b in drawn:
                cv2.line(canvas, a, b, shade, width, cv2.LINE_AA)
        for point, seen in zip(points, shown[i], strict=True):
            if seen and bones:
                cv2.circle(canvas, point, radius + 1, _SHADE, cv2.FILLED, cv2.LINE_AA)
            if seen:
                cv2.circle(canvas, point, radius, ink, cv2.FILLED, cv2.LINE_AA)


def _whole(points: NDArray[np.float32]) -> Any:
    """Whole pixels as nested lists, within what OpenCV draws: a wild keypoint ends no run."""
    return np.rint(np.nan_to_num(points).clip(-9999, 29999)).astype(int).tolist()


def _ascii(text: str) -> str:
    """What OpenCV's font has: é becomes e, what has no likeness becomes ?."""
    if text.isascii():
        return text
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
