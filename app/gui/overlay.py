"""Detections over the picture, in the geometry of app/core/overlay.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen, QPolygonF

from ..core.detections import Detections
from ..core.masks import ObjectMask
from ..core.overlay import (
    SCREEN,
    SURE,
    TINT,
    Rect,
    Rgb,
    bones_of,
    captions,
    colour_of,
    place_tags,
    tagged,
    text_colour_on,
)
from .shapes import HALO, ViewPlacement


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """The layers drawn over the frame."""

    boxes: bool = True
    labels: bool = True
    scores: bool = True
    keypoints: bool = True


def paint_detections(
    painter: QPainter,
    found: Detections,
    labels: Sequence[str],
    *,
    placed: ViewPlacement,
    in_sight: Rect,
    options: OverlayOptions,
) -> None:
    """Masks, boxes, skeletons, tags; the best detection lies over the others.

    A tag stays in sight as long as a part of its box does.
    """
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(placed.x0, placed.y0)
    boxes = (found.xyxy * placed.scale).tolist()
    colours = [colour_of(each) for each in found.class_ids.tolist()]
    worst_first = range(len(found) - 1, -1, -1)
    if options.boxes and found.masks is not None:
        for i in worst_first:
            _paint_mask(painter, found.masks[i], colours[i], placed.scale)
    if options.boxes:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for i in worst_first:
            left, top, right, bottom = boxes[i]
            for ink, width in ((HALO, SCREEN.line + 2), (QColor(*colours[i]), SCREEN.line)):
                painter.setPen(QPen(ink, width, join=Qt.PenJoinStyle.MiterJoin))
                if found.polygons is None:
                    painter.drawRect(QRectF(left, top, right - left, bottom - top))
                else:
                    painter.drawPolygon(_polygon(found.polygons[i], placed.scale))
    if options.keypoints and found.keypoints is not None:
        _paint_skeletons(painter, found, colours, placed.scale)
    if options.labels or options.scores:
        metrics = QFontMetricsF(painter.font())
        texts = captions(found, labels, named=options.labels, scored=options.scores)
        height = metrics.height() + 2 * SCREEN.pad_y
        sizes = [(metrics.horizontalAdvance(each) + 2 * SCREEN.pad_x, height) for each in texts]
        tags = place_tags(tagged(found, boxes), sizes, in_sight)
        for i in worst_first:
            if i in tags:
                left, top, right, bottom = tags[i]
                tag = QRectF(left, top, right - left, bottom - top)
                painter.fillRect(tag, QColor(*colours[i]))
                painter.setPen(QColor(*text_colour_on(colours[i])))
                painter.drawText(tag, Qt.AlignmentFlag.AlignCenter, texts[i])
    painter.restore()


def _polygon(points: NDArray[np.float32], scale: float) -> QPolygonF:
    """(P, 2) source pixels in the view."""
    return QPolygonF([QPointF(x, y) for x, y in (points * scale).tolist()])


def _paint_mask(painter: QPainter, mask: ObjectMask, rgb: Rgb, scale: float) -> None:
    """A tint inside, and its outline."""
    path = QPainterPath()
    for outline in mask.outlines:
        path.addPolygon(_polygon(outline, scale))
        path.closeSubpath()
    painter.setPen(QPen(QColor(*rgb), SCREEN.line / 2))
    painter.setBrush(QColor(*rgb, round(255 * TINT)))
    painter.drawPath(path)


def _paint_skeletons(
    painter: QPainter, found: Detections, colours: Sequence[Rgb], scale: float
) -> None:
    """Keypoints that are sure enough, and bones between two of them."""
    assert found.keypoints is not None
    sure, bones = found.keypoint_scores, bones_of(found.point_names)
    for i, places in enumerate((found.keypoints * scale).tolist()):
        points = [QPointF(x, y) for x, y in places]
        shown = [True] * len(points) if sure is None else (sure[i] >= SURE).tolist()
        for ink, width in ((HALO, SCREEN.line + 2), (QColor(*colours[i]), SCREEN.line)):
            painter.setPen(QPen(ink, width, cap=Qt.PenCapStyle.RoundCap))
            for a, b in bones:
                if shown[a] and shown[b]:
                    painter.drawLine(points[a], points[b])
        painter.setPen(QPen(HALO, 1))
        painter.setBrush(QColor(*colours[i]))
        for point, seen in zip(points, shown, strict=True):
            if seen:
                painter.drawEllipse(point, SCREEN.point, SCREEN.point)
