"""How is one quantity drawn over the last minute, and told where it is not known?"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from PyQt5.QtCore import Qt
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.gui import texts

SPAN_S = 60.0
Sample = Mapping[str, float | None]
_COLOURS = ("#4aa3ff", "#ff9f1c", "#39db5e", "#ff5c8a", "#b282ff", "#26dcd6", "#ffdd40", "#d6b278")


class Plot(QWidget):
    """Curves over the last minute, and what they say now; what is not told is "unavailable"."""

    def __init__(self, title: str, series: Sequence[str], pyqtgraph: Any) -> None:
        super().__init__()
        self.title = title
        self._pyqtgraph = pyqtgraph
        self._series: dict[str, deque[tuple[float, float]]] = {name: deque() for name in series}
        self._latest: dict[str, float | None] = dict.fromkeys(series)
        self._curves: dict[str, Any] = {}
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        # the words must not widen the window: what has no room is cut
        self.legend.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._area = pyqtgraph.PlotWidget()
        self._area.setMouseEnabled(x=False, y=False)
        self._area.setMenuEnabled(False)
        self._area.hideButtons()
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setMinimumSize(120, 64)
        self._area.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        self._area.hideAxis("bottom")
        axis = self._area.getAxis("left")
        axis.setWidth(38)
        axis.setStyle(showValues=False, tickLength=-4, maxTickLevel=0)
        self._area.showGrid(y=True, alpha=0.15)
        self._area.setXRange(-SPAN_S, 0, padding=0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.legend)
        column.addWidget(self._area, 1)
        self._write_legend()

    def restyle(self, ground: QColor, ink: QColor) -> None:
        """Follow the theme."""
        self._area.setBackground(ground)
        axis = self._area.getAxis("left")
        axis.setPen(ink)
        axis.setTextPen(ink)

    def add(self, now_s: float, sample: Sample) -> None:
        """One moment more. A series that is not told has a gap, never a 0."""
        if self.title == texts.PLOT_STAGES:
            for name in sample:
                self._series.setdefault(name, deque())
        for name, points in self._series.items():
            value = sample.get(name)
            self._latest[name] = value
            points.append((now_s, math.nan if value is None else value))
            while now_s - points[0][0] > SPAN_S:
                points.popleft()

    def redraw(self, now_s: float) -> None:
        """Show what was added."""
        self._write_legend()
        if not self._area.isVisible():
            return
        top = 0.0
        for place, (name, points) in enumerate(self._series.items()):
            known = [value for _, value in points if not math.isnan(value)]
            if not known:
                continue
            top = max(top, *known)
            if name not in self._curves:
                pen = self._pyqtgraph.mkPen(_COLOURS[place % len(_COLOURS)], width=2)
                self._area.getAxis("left").setStyle(showValues=True)
                self._curves[name] = self._area.plot(pen=pen, connect="finite")
            self._curves[name].setData(
                [at_s - now_s for at_s, _ in points], [value for _, value in points]
            )
        self._area.setYRange(0, _round_up(top), padding=0.06)

    def _write_legend(self) -> None:
        parts = []
        for place, (name, value) in enumerate(self._latest.items()):
            shown = texts.UNAVAILABLE if value is None else _figure(value)
            colour = _COLOURS[place % len(_COLOURS)]
            title = texts.SERIES.get(name, name)
            parts.append(f'<span style="color:{colour}">■</span> {title} <b>{shown}</b>')
        text = f"<b>{self.title}</b><br>" + " &nbsp; ".join(parts)
        if text != self.legend.text():
            self.legend.setText(text)
            self.setAccessibleName(f"{self.title}: {self.spoken()}")
            self.legend.setToolTip(self.spoken())  # the whole of it, where there is no room

    def spoken(self) -> str:
        """The latest figures in words."""
        return ", ".join(
            f"{texts.SERIES.get(name, name)} "
            + (texts.UNAVAILABLE if value is None else _figure(value))
            for name, value in self._latest.items()
        )


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, so that the axis stays calm."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
