"""What do the tools look like? Drawn here in the text's colour, so that they suit every theme."""

from __future__ import annotations

from collections.abc import Callable

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QIcon, QPainter, QPen, QPixmap, QPolygonF

SIDE = 20  # the drawings' own unit
RED = QColor(232, 72, 72)
Draw = Callable[[QPainter, QColor], None]


def icon(name: str, colour: QColor) -> QIcon:
    """The icon in this colour, sharp up to twofold density."""
    drawn = QIcon()
    for opacity, mode in ((1.0, QIcon.Mode.Normal), (0.35, QIcon.Mode.Disabled)):
        for density in (1, 2):
            pixmap = QPixmap(SIDE * density, SIDE * density)
            pixmap.fill(Qt.GlobalColor.transparent)
            painter = QPainter(pixmap)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setOpacity(opacity)
            painter.scale(density, density)
            painter.setPen(QPen(colour, 1.6, cap=Qt.PenCapStyle.RoundCap))
            _DRAWINGS[name](painter, colour)
            painter.end()
            pixmap.setDevicePixelRatio(density)
            drawn.addPixmap(pixmap, mode)
    return drawn


def _pause(painter: QPainter, colour: QColor) -> None:
    painter.fillRect(QRectF(5, 4, 3.4, 12), colour)
    painter.fillRect(QRectF(11.6, 4, 3.4, 12), colour)


def _triangle(painter: QPainter, colour: QColor, left: float) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    painter.drawPolygon(QPolygonF([QPointF(left, 4), QPointF(left + 10, 10), QPointF(left, 16)]))


def _play(painter: QPainter, colour: QColor) -> None:
    _triangle(painter, colour, 6)


def _step(painter: QPainter, colour: QColor) -> None:
    _triangle(painter, colour, 3.5)
    painter.fillRect(QRectF(14, 4, 2.6, 12), colour)


def _snapshot(painter: QPainter, colour: QColor) -> None:
    painter.drawRoundedRect(QRectF(2.5, 5.5, 15, 10.5), 2, 2)
    painter.drawLine(QPointF(7, 5.5), QPointF(8.3, 3.5))
    painter.drawLine(QPointF(8.3, 3.5), QPointF(11.7, 3.5))
    painter.drawLine(QPointF(11.7, 3.5), QPointF(13, 5.5))
    painter.drawEllipse(QPointF(10, 10.7), 2.9, 2.9)


def _record(painter: QPainter, colour: QColor) -> None:
    painter.drawEllipse(QPointF(10, 10), 7, 7)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(RED)
    painter.drawEllipse(QPointF(10, 10), 4, 4)


def _recording(painter: QPainter, colour: QColor) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(RED)
    painter.drawRoundedRect(QRectF(4.5, 4.5, 11, 11), 2, 2)


def _controls(painter: QPainter, colour: QColor) -> None:
    for y, x in ((5, 13), (10, 7), (15, 11)):
        painter.drawLine(QPointF(3, y), QPointF(17, y))
        painter.setBrush(colour)
        painter.drawEllipse(QPointF(x, y), 2, 2)


def _instruments(painter: QPainter, colour: QColor) -> None:
    painter.drawLine(QPointF(3, 3.5), QPointF(3, 16.5))
    painter.drawLine(QPointF(3, 16.5), QPointF(17, 16.5))
    points = [(5.5, 12.5), (8.5, 8.5), (11.5, 11), (16, 5)]
    painter.drawPolyline(QPolygonF([QPointF(*each) for each in points]))


def _full_screen(painter: QPainter, colour: QColor) -> None:
    for x, dx in ((3.5, 4), (16.5, -4)):
        for y, dy in ((3.5, 4), (16.5, -4)):
            painter.drawLine(QPointF(x, y), QPointF(x + dx, y))
            painter.drawLine(QPointF(x, y), QPointF(x, y + dy))


def _fit(painter: QPainter, colour: QColor) -> None:
    painter.drawRect(QRectF(2.5, 4.5, 15, 11))
    painter.drawRect(QRectF(6, 7.5, 8, 5))


def _more(painter: QPainter, colour: QColor) -> None:
    for x in (4, 10):
        painter.drawPolyline(QPolygonF([QPointF(x, 4), QPointF(x + 6, 10), QPointF(x, 16)]))


_DRAWINGS: dict[str, Draw] = {
    "pause": _pause,
    "play": _play,
    "step": _step,
    "snapshot": _snapshot,
    "record": _record,
    "recording": _recording,
    "controls": _controls,
    "instruments": _instruments,
    "full_screen": _full_screen,
    "fit": _fit,
    "more": _more,
}
