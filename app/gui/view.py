"""How is one result shown in a widget?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPaintEvent, QPen
from PyQt5.QtWidgets import QWidget
from PyQt5.sip import voidptr

from app.detections import Result
from app.overlay import bgr_pixels, caption, colour_of, text_colour_on

_BACKDROP = QColor(18, 18, 20)
_INK = QColor(235, 235, 235)


def fit(frame_wh_px: tuple[int, int], room_wh: tuple[int, int]) -> tuple[float, float, float]:
    """(scale, x0, y0) that centres the frame in the room as large as it fits.

    A point (x, y) of the frame lies at (x0 + scale x, y0 + scale y), in logical pixels.
    """
    (frame_w, frame_h), (width, height) = frame_wh_px, room_wh
    scale = min(width / frame_w, height / frame_h)
    return scale, (width - frame_w * scale) / 2, (height - frame_h * scale) / 2


class ResultView(QWidget):
    """Shows a result, boxes drawn as vectors over the frame that they were computed from."""

    def __init__(self, labels: Sequence[str], hint: str = "") -> None:
        super().__init__()
        self._labels = labels
        self._hint = hint or "waiting for the first frame"
        self._hud = ""
        self._result: Result | None = None
        self._pixels: NDArray[np.uint8] | None = None
        self._image: QImage | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # every pixel is painted below
        self.setMinimumSize(160, 90)

    @property
    def hud_height(self) -> int:
        """The status line's own strip below the frame, in logical pixels: it hides no box."""
        return self.fontMetrics().height() + 8

    def set_hud(self, text: str) -> None:
        """The status line; repaints if it has changed."""
        if text != self._hud:
            self._hud = text
            self.update()

    def set_result(self, result: Result) -> None:
        """Show this one from now on."""
        pixels = bgr_pixels(result.frame)
        height, width = pixels.shape[:2]
        # No copy: the image looks at the frame's own memory, which ``_pixels`` keeps alive.
        address, stride = voidptr(pixels.ctypes.data), pixels.strides[0]
        self._image = QImage(address, width, height, stride, QImage.Format.Format_BGR888)
        self._result, self._pixels = result, pixels
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Frame, boxes, status line."""
        painter = QPainter(self)
        try:
            painter.fillRect(self.rect(), _BACKDROP)
            if self._result is None or self._image is None:
                painter.setPen(_INK)
                painter.drawText(
                    self.rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._hint
                )
            else:
                self._paint_result(painter, self._result, self._image)
            if self._hud:
                self._paint_hud(painter)
        finally:
            painter.end()  # also when an exception passes: Qt crashes on a painter left open

    def _paint_result(self, painter: QPainter, result: Result, image: QImage) -> None:
        room = self.width(), max(1, self.height() - self.hud_height)
        scale, x0, y0 = fit((image.width(), image.height()), room)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, scale != 1.0)
        painter.drawImage(QRectF(x0, y0, image.width() * scale, image.height() * scale), image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.translate(x0, y0)
        found = result.detections
        boxes = (found.xyxy * scale).tolist()
        class_ids, scores = found.class_ids.tolist(), found.scores.tolist()
        colours = [colour_of(each) for each in class_ids]
        worst_first = range(len(found) - 1, -1, -1)  # the best one over the others
        for i in worst_first:
            left, top, right, bottom = boxes[i]
            painter.setPen(QPen(QColor(*colours[i]), 2, join=Qt.PenJoinStyle.MiterJoin))
            painter.drawRect(QRectF(left, top, right - left, bottom - top))
        if found.keypoints is not None:
            painter.setPen(Qt.PenStyle.NoPen)
            for i, points in enumerate((found.keypoints * scale).tolist()):
                painter.setBrush(QColor(*colours[i]))
                for x, y in points:
                    painter.drawEllipse(QPointF(x, y), 3, 3)
        for i in worst_first:
            text = caption(self._labels, class_ids[i], scores[i])
            strip = self._tag_strip(text, boxes[i], image.width() * scale)
            painter.fillRect(strip, QColor(*colours[i]))
            painter.setPen(QColor(*text_colour_on(colours[i])))
            painter.drawText(strip, Qt.AlignmentFlag.AlignCenter, text)
        painter.resetTransform()

    def _tag_strip(self, text: str, box: Sequence[float], width: float) -> QRectF:
        """Where the text goes: above the box, or inside it at the upper edge of the frame."""
        metrics = QFontMetricsF(self.font())
        tag_w, tag_h = metrics.horizontalAdvance(text) + 8, metrics.height() + 2
        left = max(0.0, min(box[0] - 1, width - tag_w))
        top = box[1] - tag_h
        return QRectF(left, top if top >= 0 else max(0.0, box[1]), tag_w, tag_h)

    def _paint_hud(self, painter: QPainter) -> None:
        top = self.height() - self.hud_height
        inner = QRectF(8, top, max(1, self.width() - 16), self.hud_height)
        metrics = QFontMetricsF(self.font())
        text = metrics.elidedText(self._hud, Qt.TextElideMode.ElideRight, inner.width())
        painter.setPen(_INK)
        painter.drawText(inner, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
