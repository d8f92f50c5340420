"""How are detections drawn into a frame's pixels?"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.detections import Detections
from app.overlay import Rgb, caption, colour_of, line_width_px, text_colour_on

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_detections(
    canvas: NDArray[np.uint8], detections: Detections, labels: Sequence[str]
) -> None:
    """Boxes, labels, scores and keypoints onto ``canvas``, (H, W, 3) uint8 BGR, in place."""
    height, width = canvas.shape[:2]
    line = line_width_px((width, height))
    boxes = _whole(detections.xyxy)
    ids, scores = detections.class_ids.tolist(), detections.scores.tolist()
    colours = [colour_of(each) for each in ids]
    worst_first = range(len(detections) - 1, -1, -1)  # the best one over the others
    for i in worst_first:
        x0, y0, x1, y1 = boxes[i]
        # right and bottom are exclusive: the last pixel inside is one before
        corner = max(x0, x1 - 1), max(y0, y1 - 1)
        cv2.rectangle(canvas, (x0, y0), corner, colours[i][::-1], line)
    if detections.keypoints is not None:
        for i, points in enumerate(_whole(detections.keypoints)):
            for x, y in points:
                cv2.circle(canvas, (x, y), line + 1, colours[i][::-1], cv2.FILLED, cv2.LINE_AA)
    for i in worst_first:
        text = _ascii(caption(labels, ids[i], scores[i]))
        _tag(canvas, (boxes[i][0], boxes[i][1]), text, colours[i])


def _whole(points: NDArray[np.float32]) -> Any:
    """Whole pixels as nested lists, within what OpenCV draws: a wild keypoint ends no run."""
    return np.rint(np.nan_to_num(points).clip(-9999, 29999)).astype(int).tolist()


def _tag(canvas: NDArray[np.uint8], corner_px: tuple[int, int], text: str, colour: Rgb) -> None:
    """The text on a filled strip above the corner, or below it where there is no room."""
    height, width = canvas.shape[:2]
    line = line_width_px((width, height))
    scale, stroke = max(0.35, min(width, height) / 900), max(1, line // 2)
    (text_w, text_h), base = cv2.getTextSize(text, _FONT, scale, stroke)
    x = max(0, min(corner_px[0], width - text_w - 4))
    top = corner_px[1] - text_h - base - 2
    if top < 0:
        top = max(0, corner_px[1])
    bottom = top + text_h + base + 2
    cv2.rectangle(canvas, (x, top), (x + text_w + 4, bottom), colour[::-1], cv2.FILLED)
    ink = text_colour_on(colour)
    at = (x + 2, top + text_h + 1)
    cv2.putText(canvas, text, at, _FONT, scale, ink, stroke, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """What OpenCV's font has: é becomes e, what has no likeness becomes ?."""
    if text.isascii():
        return text
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
