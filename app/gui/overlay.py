"""Zones, lines and detections over the picture, in the geometry of app/core/overlay.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPen, QPolygonF

from ..core.detections import Detections, DrawnShape
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
from ..core.text import printable

HALO = QColor(0, 0, 0, 110)  # around every line, so that it shows on a ground of its own colour


@dataclass(frozen=True, slots=True)
class ViewPlacement:
    """A point (x, y) of the frame lies at (x0 + scale x, y0 + scale y), in logical pixels."""

    scale: float
    x0: float
    y0: float

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.x0) / self.scale, (y - self.y0) / self.scale

    def to_view(self, x: float, y: float) -> QPointF:
        return QPointF(self.x0 + x * self.scale, self.y0 + y * self.scale)


def paint_shapes(
    painter: QPainter, shapes: Sequence[DrawnShape], placed: ViewPlacement, *, fill: int = 0
) -> None:
    """Outlines with their texts; ``fill`` 0..255 is how opaque the inside of zones is."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for shape in shapes:
        points = [placed.to_view(x, y) for x, y in shape.points]
        outline(painter, points, shape.rgb, closed=shape.closed, fill=fill)
        if not shape.closed:
            _arrow(painter, points, shape.rgb)
    for shape in shapes:  # texts lie over all outlines
        _tag(painter, placed.to_view(*shape.points[0]), printable(shape.text), shape.rgb)
    painter.restore()


def outline(
    painter: QPainter, points: Sequence[QPointF], rgb: Rgb, *, closed: bool, fill: int = 0
) -> None:
    """A line through these places of the view, with its halo."""
    path = QPolygonF(list(points))
    if fill and closed:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(*rgb, fill))
        painter.drawPolygon(path)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for ink, width in ((HALO, SCREEN.line + 2), (QColor(*rgb), SCREEN.line)):
        painter.setPen(QPen(ink, width, join=Qt.PenJoinStyle.RoundJoin))
        painter.drawPolygon(path) if closed else painter.drawPolyline(path)


def paint_handle(painter: QPainter, at: QPointF, rgb: Rgb, *, size: float = 1.0) -> None:
    painter.setPen(QPen(QColor(255, 255, 255), 1.5))
    painter.setBrush(QColor(*rgb))
    painter.drawEllipse(at, SCREEN.handle * size, SCREEN.handle * size)


def _arrow(painter: QPainter, points: Sequence[QPointF], rgb: Rgb) -> None:
    """From the middle of a line to the side where "in" is."""
    way, middle = points[1] - points[0], (points[0] + points[1]) / 2
    length = math.hypot(way.x(), way.y()) or 1.0
    along = way / length
    across = QPointF(-along.y(), along.x())
    size = SCREEN.arrow
    foot = middle + across * (2 * size)
    outline(painter, [middle, foot], rgb, closed=False)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(*rgb))
    side = along * (0.7 * size)
    painter.drawPolygon(QPolygonF([foot + across * size, foot - side, foot + side]))


def _tag(painter: QPainter, at: QPointF, text: str, rgb: Rgb) -> None:
    metrics = QFontMetricsF(painter.font())
    width = metrics.horizontalAdvance(text) + 2 * SCREEN.pad_x
    height = metrics.height() + 2 * SCREEN.pad_y
    room = painter.viewport()
    gap = SCREEN.handle + 3
    left = max(0.0, min(at.x() + gap, room.width() - width))
    above = at.y() - height - gap
    top = above if above >= 0 else min(at.y() + gap, room.height() - height)
    _write(painter, QRectF(left, top, width, height), text, rgb)


def _write(painter: QPainter, place: QRectF, text: str, rgb: Rgb) -> None:
    painter.fillRect(place, QColor(*rgb))
    painter.setPen(QColor(*text_colour_on(rgb)))
    painter.drawText(place, Qt.AlignmentFlag.AlignCenter, text)


def paint_badge(painter: QPainter, text: str) -> None:
    """A line in the lower left corner of the view; nothing for ""."""
    if not text:
        return
    metrics, room = QFontMetricsF(painter.font()), painter.viewport()
    text = metrics.elidedText(text, Qt.TextElideMode.ElideRight, max(0, room.width() - 40))
    width, height = metrics.horizontalAdvance(text) + 24, metrics.height() + 10
    badge = QRectF(8, room.height() - height - 8, width, height)
    painter.fillRect(badge, QColor(18, 18, 20, 205))
    painter.setPen(QColor(255, 221, 64))
    painter.drawText(badge, Qt.AlignmentFlag.AlignCenter, text)


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
                _write(painter, tag, texts[i], colours[i])
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
