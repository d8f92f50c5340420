"""How are the figures of the run shown below the picture, where they hide nothing?"""

from __future__ import annotations

import math

from PyQt5.QtCore import QRectF, QSize, Qt
from PyQt5.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PyQt5.QtWidgets import QSizePolicy, QWidget

from app.gui import texts
from app.session_state import SessionState

_GROUND, _NAME, _VALUE = QColor(24, 24, 27), QColor(140, 142, 150), QColor(236, 236, 238)
_ALERT = QColor(255, 120, 120)
_GAP = 18.0

Figure = tuple[str, str]  # what it is, what it says


class Hud(QWidget):
    """One line of named figures."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[Figure] = []
        self.badges: list[str] = []
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_figures(self, figures: list[Figure], badges: list[str]) -> None:
        """Repaints if they have changed."""
        if (figures, badges) != (self.figures, self.badges):
            self.figures, self.badges = figures, badges
            self.setAccessibleName(", ".join(f"{name} {value}" for name, value in figures))
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """One line."""
        return QSize(200, self.fontMetrics().height() + 12)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        """Names quiet, values clear; what has no room is left out from the right."""
        painter = QPainter(self)
        try:
            painter.fillRect(self.rect(), _GROUND)
            bold = QFont(self.font())
            bold.setWeight(QFont.Weight.DemiBold)
            x, end = 12.0, self.width() - 12.0
            for badge in self.badges:
                x = self._write(painter, badge, bold, _ALERT, x, end) + _GAP
            for name, value in self.figures:
                x = self._write(painter, name, self.font(), _NAME, x, end) + 6
                x = self._write(painter, value, bold, _VALUE, x, end) + _GAP
                if x >= end:
                    break
        finally:
            painter.end()

    def _write(
        self, painter: QPainter, text: str, font: QFont, ink: QColor, x: float, end: float
    ) -> float:
        """Write at x; where it ended."""
        metrics = QFontMetricsF(font)
        room = max(0.0, end - x)
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
        painter.setFont(font)
        painter.setPen(ink)
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(x, 0, room, self.height()), flags, shown)
        return x + metrics.horizontalAdvance(shown)


def figures_of(state: SessionState) -> list[Figure]:
    """What the status line says."""
    now = state.figures
    wh_px = state.feed.info.wh_px if state.feed.info else None
    watts = state.machine.power_w
    power = [] if watts is None else [(texts.POWER, _power(watts, now.fps))]
    return [
        (texts.FPS, f"{now.fps:.1f}"),
        (texts.AGE, f"{milliseconds(now.age_p50_ms)} / {milliseconds(now.age_p95_ms)} ms"),
        (texts.DROPPED, f"{sum(now.dropped.values())}"),
        (texts.SIZE, f"{wh_px[0]} × {wh_px[1]}" if wh_px else texts.NO_FIGURE),
        *power,
        # the model's name stands in its picker
        (texts.ENGINE, state.engine_text.removesuffix(f", {state.model_name}") or texts.NO_FIGURE),
    ]


def _power(watts: float, fps: float) -> str:
    """With what a frame costs, while there are any."""
    return f"{watts:.1f} W" + (f", {watts / fps:.2g} J a frame" if fps else "")


def milliseconds(value: float) -> str:
    """A dash where there is no figure."""
    return texts.NO_FIGURE if math.isnan(value) else f"{value:.0f}"
