"""How are detections drawn over the frame, as vectors, sharp at every zoom?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen

from app.detections import Detections
from app.gui.geometry import Placement
from app.overlay import colour_of, label_of, printable, text_colour_on

LINE = 2.0  # logical pixels, whatever the zoom
MOST_APART = 40  # tags that others keep clear of: in a crowd there is no room anyway
HALO = QColor(0, 0, 0, 110)  # around every line, so that it shows on a ground of its own colour


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """What is drawn."""

    boxes: bool = True
    labels: bool = True
    scores: bool = True
    keypoints: bool = True


def paint_detections(
    painter: QPainter,
    found: Detections,
    labels: Sequence[str],
    *,
    placed: Placement,
    frame_wh_px: tuple[int, int],
    room_wh: tuple[int, int],
    options: OverlayOptions,
) -> None:
    """Boxes, keypoints, tags; the best detection lies over the others.

    ``room_wh`` is the view's size: a tag stays in sight as long as a part of its box does.
    """
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(placed.x0, placed.y0)
    boxes = (found.xyxy * placed.scale).tolist()
    class_ids, scores = found.class_ids.tolist(), found.scores.tolist()
    colours = [colour_of(each) for each in class_ids]
    worst_first = range(len(found) - 1, -1, -1)
    if options.boxes:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for i in worst_first:
            left, top, right, bottom = boxes[i]
            rectangle = QRectF(left, top, right - left, bottom - top)
            painter.setPen(QPen(HALO, LINE + 2, join=Qt.PenJoinStyle.MiterJoin))
            painter.drawRect(rectangle)
            painter.setPen(QPen(QColor(*colours[i]), LINE, join=Qt.PenJoinStyle.MiterJoin))
            painter.drawRect(rectangle)
    if options.keypoints and found.keypoints is not None:
        for i, points in enumerate((found.keypoints * placed.scale).tolist()):
            painter.setPen(QPen(HALO, 1))
            painter.setBrush(QColor(*colours[i]))
            for x, y in points:
                painter.drawEllipse(QPointF(x, y), 3.5, 3.5)
    if options.labels or options.scores:
        seen = QRectF(0, 0, frame_wh_px[0] * placed.scale, frame_wh_px[1] * placed.scale)
        seen &= QRectF(-placed.x0, -placed.y0, room_wh[0], room_wh[1])
        metrics = QFontMetricsF(painter.font())
        strips: dict[int, QRectF] = {}
        captions = [
            _caption(labels, *each, options) for each in zip(class_ids, scores, strict=True)
        ]
        for i in _largest_first(boxes):
            left, top, right, bottom = boxes[i]
            if seen.intersects(QRectF(left, top, right - left, bottom - top)):
                taken = list(strips.values())[:MOST_APART]
                strips[i] = _strip(metrics, captions[i], boxes[i], seen, taken)
        for i in worst_first:
            if i in strips:
                painter.fillRect(strips[i], QColor(*colours[i]))
                painter.setPen(QColor(*text_colour_on(colours[i])))
                painter.drawText(strips[i], Qt.AlignmentFlag.AlignCenter, captions[i])
    painter.restore()


def tag_font(base: QFont) -> QFont:
    """The tags' font: the system's, a little heavier."""
    font = QFont(base)
    font.setWeight(QFont.Weight.DemiBold)
    return font


def _caption(labels: Sequence[str], class_id: int, score: float, options: OverlayOptions) -> str:
    words = [printable(label_of(labels, class_id))] if options.labels else []
    return " ".join([*words, f"{score:.2f}"] if options.scores else words)


def _largest_first(boxes: Sequence[Sequence[float]]) -> list[int]:
    """A box that lies in another gives way to it; sizes change less from frame to frame."""
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    return sorted(range(len(boxes)), key=lambda i: -areas[i])


def _strip(
    metrics: QFontMetricsF, text: str, box: Sequence[float], seen: QRectF, taken: Sequence[QRectF]
) -> QRectF:
    """Where the tag goes: above the box, or inside it at the upper edge of what is seen.

    Where another tag is, it goes below the box, or inside at its lower edge, if that is free.
    """
    tag_w, tag_h = metrics.horizontalAdvance(text) + 10, metrics.height() + 3
    left = max(seen.left(), min(box[0] - LINE / 2, seen.right() - tag_w))
    above = box[1] - tag_h
    first = QRectF(left, above if above >= seen.top() else max(seen.top(), box[1]), tag_w, tag_h)
    others = (QRectF(left, top, tag_w, tag_h) for top in (box[3], box[3] - tag_h))
    for strip in (first, *others):
        if seen.contains(strip) and not any(strip.intersects(each) for each in taken):
            return strip
    return first
