"""Measurements on screen: plots, table of counts, status bar."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import cycle
from time import monotonic
from typing import Any

from PyQt5.QtCore import QRectF, QSize, Qt
from PyQt5.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..core.detections import Result, label_of
from ..core.overlay import colour_of
from ..core.text import printable
from ..session.state import SessionState
from . import texts
from .objects import Row


class CountsTable(QTableWidget):
    """A table of class, count and best score; or of objects, where they are tracked."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        self.setAccessibleName(texts.IN_PICTURE)
        self.setHorizontalHeaderLabels(list(texts.TABLE_HEAD))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setFixedWidth(232)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None and columns is not None
        rows.hide()
        rows.setDefaultSectionSize(22)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            columns.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self._shown: list[Row] = []
        self._head = texts.TABLE_HEAD

    def show_counts(self, counts: list[tuple[int, str, int, float]]) -> None:
        """Rows of (class_id, label, count, best score)."""
        rows = [(i, (label, str(count), f"{best:.2f}")) for i, label, count, best in counts]
        self._show(texts.TABLE_HEAD, rows)

    def show_objects(self, rows: list[Row]) -> None:
        """Rows of ObjectLog."""
        self._show(texts.OBJECTS_HEAD, rows)

    def _show(self, head: tuple[str, str, str], rows: list[Row]) -> None:
        if head != self._head:
            self._head = head
            self.setHorizontalHeaderLabels(list(head))
        if rows == self._shown:
            return
        self._shown = rows
        self.setRowCount(len(rows))
        for row, (class_id, told) in enumerate(rows):
            cells = [QTableWidgetItem(text) for text in told]
            cells[0].setData(Qt.ItemDataRole.DecorationRole, QColor(*colour_of(class_id)))
            for column, cell in enumerate(cells):
                self.setItem(row, column, cell)


def counts_of(
    result: Result, labels: Sequence[str], hidden: frozenset[str]
) -> list[tuple[int, str, int, float]]:
    """(class_id, label, count, best score) of each class in the result, most frequent first."""
    found = result.detections.without(labels, hidden)
    class_ids = found.class_ids.tolist()
    best: dict[int, float] = {}
    for class_id, score in zip(class_ids, found.scores.tolist(), strict=True):
        best.setdefault(class_id, round(score, 2))  # scores are falling
    return [
        (class_id, printable(label_of(labels, class_id)), count, best[class_id])
        for class_id, count in sorted(Counter(class_ids).items(), key=lambda kv: (-kv[1], kv[0]))
    ]


Figure = tuple[str, str]  # what it is, what it says

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
        axis, time = (self._area.getAxis(side) for side in ("left", "bottom"))
        axis.setWidth(38)
        axis.setStyle(showValues=False, tickLength=-4, maxTickLevel=0)
        axis.setTickDensity(0.5)
        time.setHeight(18)
        time.setStyle(tickLength=-3, tickTextOffset=1)
        time.setTicks([[(-at_s, f"−{at_s} s") for at_s in (45, 30, 15)]])
        for each in (axis, time):
            font = QFont(self.font())
            font.setPointSizeF(0.8 * font.pointSizeF())
            each.setTickFont(font)
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
        for side in ("left", "bottom"):
            axis = self._area.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)

    def add(self, now_s: float, sample: Sample) -> None:
        """Append one sample; a series without a value gets a gap, never a 0."""
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
        """Draw the samples added since."""
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
        shown = [
            f'<span style="color:{colour}">■</span> {name} <b>{value}</b>'
            for colour, (name, value) in zip(cycle(_COLOURS), self._named())
        ]
        text = f"<b>{self.title}</b><br>" + " &nbsp; ".join(shown)
        if text != self.legend.text():
            self.legend.setText(text)
            self.setAccessibleName(f"{self.title}: {self.spoken()}")
            self.legend.setToolTip(self.spoken())  # the whole of it, where there is no room

    def spoken(self) -> str:
        """The latest figures in words."""
        return ", ".join(f"{name} {value}" for name, value in self._named())

    def _named(self) -> list[Figure]:
        return [
            (texts.SERIES.get(name, name), texts.UNAVAILABLE if value is None else _figure(value))
            for name, value in self._latest.items()
        ]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, so that the axis stays calm."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


SAMPLE_S = 0.25

_PLOTS: dict[str, tuple[str, ...]] = {  # title: its series; stages name themselves
    texts.PLOT_STAGES: (),
    texts.PLOT_AGE: ("age_p50", "age_p95"),
    texts.PLOT_FPS: ("fps", "capture_fps", "drops"),
    texts.PLOT_LOAD: ("cpu", "gpu"),
    texts.PLOT_MEMORY: ("memory", "gpu_memory"),
    texts.PLOT_HEAT: ("temperature", "power"),
}


class Instruments(QWidget):
    """Plots and table. It samples four times a second, and repaints one plot after another.

    Samples are kept while it is hidden too: the plots begin with the last minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(10, 6, 10, 8)
        self._row.setSpacing(10)
        self._grid = QGridLayout()
        self._pyqtgraph: Any = None
        self._missing: list[tuple[str, Sequence[str]]] = []  # plots to be made, one a tick
        self.plots: list[Plot] = []
        self._history: deque[tuple[float, Sample, Sample]] = deque()  # time, sample, stages
        self._colours = QColor("white"), QColor("gray")
        self._turn = 0
        self._next_s = 0.0
        self._drops: tuple[float, int] | None = None
        self.table = CountsTable()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Enough to read the plots; the view gets the rest."""
        return QSize(900, 260)

    def build(self) -> None:
        """Get ready to make the plots, once they are wanted."""
        if self._row.count():
            return
        try:
            import pyqtgraph
        except ImportError:
            label = QLabel(texts.NO_PYQTGRAPH)
            label.setWordWrap(True)
            self._row.addWidget(label, 1)
        else:
            pyqtgraph.setConfigOptions(antialias=True)
            self._grid.setSpacing(6)
            self._row.addLayout(self._grid, 1)
            self._pyqtgraph, self._missing = pyqtgraph, list(_PLOTS.items())
        side = QVBoxLayout()
        side.addWidget(QLabel(texts.IN_PICTURE))
        side.addWidget(self.table, 1)
        self._row.addLayout(side)

    def restyle(self, *, ground: QColor, ink: QColor) -> None:
        """Follow the theme."""
        self._colours = ground, ink
        for plot in self.plots:
            plot.restyle(ground, ink)

    def tick(self, state: SessionState) -> None:
        """Take a sample when it is time; repaint one plot, or make one that is still missing."""
        now_s = monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + SAMPLE_S
            self._history.append((now_s, self._sample(state, now_s), state.figures.stages_ms))
            while now_s - self._history[0][0] > SPAN_S:
                self._history.popleft()
            for plot in self.plots:
                self._add_sample(plot, *self._history[-1])
            self._turn = 0
        if not self.isVisible():
            return
        if self._missing:
            self._add_plot(*self._missing.pop(0))
        elif self._turn < len(self.plots):
            self.plots[self._turn].redraw(now_s)
            self._turn += 1

    def _add_plot(self, title: str, series: Sequence[str]) -> None:
        plot = Plot(title, series, self._pyqtgraph)
        plot.restyle(*self._colours)
        self._grid.addWidget(plot, len(self.plots) // 3, len(self.plots) % 3)
        self.plots.append(plot)
        for known in self._history:
            self._add_sample(plot, *known)
        self._turn = 0

    def _add_sample(self, plot: Plot, at_s: float, sample: Sample, stages_ms: Sample) -> None:
        plot.add(at_s, stages_ms if plot.title == texts.PLOT_STAGES else sample)

    def _sample(self, state: SessionState, now_s: float) -> Sample:
        figures, machine = state.figures, state.machine
        dropped = sum(figures.dropped.values())
        before, self._drops = self._drops, (now_s, dropped)
        rate = None
        if before is not None and now_s > before[0]:
            rate = max(0.0, (dropped - before[1]) / (now_s - before[0]))
        return {
            "age_p50": _known(figures.age_p50_ms),
            "age_p95": _known(figures.age_p95_ms),
            "fps": figures.fps,
            "capture_fps": figures.capture_fps,
            "drops": rate,
            "cpu": machine.cpu_percent,
            "gpu": machine.gpu_percent,
            "memory": machine.memory_mb,
            "gpu_memory": machine.gpu_memory_mb,
            "temperature": machine.temperature_c,
            "power": machine.power_w,
        }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


_GROUND, _NAME, _VALUE = QColor(24, 24, 27), QColor(140, 142, 150), QColor(236, 236, 238)
_ALERT = QColor(255, 120, 120)
_GAP = 18.0


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
        """Paint names in grey and values in white; what does not fit is cut off at the right."""
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
        """Write the text at x; returns the x of its end."""
        metrics = QFontMetricsF(font)
        room = max(0.0, end - x)
        shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
        painter.setFont(font)
        painter.setPen(ink)
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRectF(x, 0, room, self.height()), flags, shown)
        return x + metrics.horizontalAdvance(shown)


def figures_of(state: SessionState) -> list[Figure]:
    """The figures of the status bar."""
    now = state.figures
    wh_px = state.source.info.wh_px if state.source.info else None
    watts = state.machine.power_w
    power = [] if watts is None else [(texts.POWER, _power(watts, now.fps))]
    return [
        *speed_figures(now.fps, (now.age_p50_ms, now.age_p95_ms), now.dropped),
        (texts.SIZE, f"{wh_px[0]} × {wh_px[1]}" if wh_px else texts.NO_FIGURE),
        *power,
        # the model's name stands in its picker
        (texts.ENGINE, state.engine_text.removesuffix(f", {state.model_name}") or texts.NO_FIGURE),
    ]


def speed_figures(
    fps: float, age_ms: tuple[float, float], dropped: Mapping[str, int]
) -> list[Figure]:
    """Frame rate, ages (p50 and p95; a dash where there is none) and drops of a source."""
    p50, p95 = (texts.NO_FIGURE if math.isnan(age) else f"{age:.0f}" for age in age_ms)
    return [
        (texts.FPS, f"{fps:.1f}"),
        (texts.AGE, f"{p50} / {p95} ms"),
        (texts.DROPPED, str(sum(dropped.values()))),
    ]


def _power(watts: float, fps: float) -> str:
    """Power in W and, while frames arrive, energy per frame in J."""
    return f"{watts:.1f} W" + (f", {watts / fps:.2g} J a frame" if fps else "")
