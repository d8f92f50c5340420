"""Measurements on screen: plots, table of counts, status bar."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from time import monotonic
from typing import Any

from PyQt5.QtCore import QRectF, QSize, Qt
from PyQt5.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
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
from .controls import pictures_of
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
MOST_SAMPLES = 1200  # of a whole run; then every second one goes
SAMPLE_S = 0.25


class History:
    """The samples of a source: all of the last minute, and evenly thinned ones of the whole run."""

    def __init__(self) -> None:
        self.last_minute: deque[tuple[float, Sample]] = deque()
        self.whole: list[tuple[float, Sample]] = []
        self._every_s = SAMPLE_S
        self._drops: tuple[float, int] | None = None

    def add(self, now_s: float, state: SessionState) -> None:
        sample = now_s, self._sample(state, now_s)
        self.last_minute.append(sample)
        while now_s - self.last_minute[0][0] > SPAN_S:
            self.last_minute.popleft()
        if not self.whole or now_s - self.whole[-1][0] >= 0.9 * self._every_s:
            self.whole.append(sample)
        if len(self.whole) > MOST_SAMPLES:
            del self.whole[1::2]
            self._every_s *= 2

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
            **{f"{STAGE}{name}": value for name, value in figures.stages_ms.items()},
        }


STAGE = "stage "  # before the name of a stage among a sample's


def time_ticks(span_s: float) -> list[tuple[float, str]]:
    """Up to four places of a time axis that ends now, with their labels."""
    steps = [(15, 1, "s"), *((60 * n, 60, "min") for n in (1, 2, 3, 5, 10, 15, 30))]
    steps += [(3600 * n, 3600, "h") for n in (1, 2, 3, 6, 12, 24, 48, 96, 192)]
    step, unit, name = next((each for each in steps if span_s <= 4.5 * each[0]), steps[-1])
    places = range(step, math.ceil(span_s), step)
    return [(-at_s, f"−{at_s // unit} {name}") for at_s in places]


class Plot(QWidget):
    """Curves over a span, and what they say now; what is not told is "unavailable".

    ``series``: of which values of a sample; none: of all its stages.
    """

    def __init__(self, title: str, series: Sequence[str], pyqtgraph: Any) -> None:
        super().__init__()
        self.title, self._series = title, tuple(series)
        self._pyqtgraph = pyqtgraph
        self._latest: dict[str, float | None] = dict.fromkeys(series)
        self._curves: dict[str, Any] = {}
        self._span_s = 0.0
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        # the words must not widen the window: what has no room is cut
        self.legend.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._area = pyqtgraph.PlotWidget()
        self._area.setMouseEnabled(x=False, y=False)
        self._area.setMenuEnabled(False)
        self._area.hideButtons()
        self._area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._area.setMinimumSize(120, 44)
        self._area.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)
        axis, time = (self._area.getAxis(side) for side in ("left", "bottom"))
        axis.setWidth(38)
        axis.setStyle(showValues=False, tickLength=-4, maxTickLevel=0)
        axis.setTickDensity(0.5)
        time.setHeight(18)
        time.setStyle(tickLength=-3, tickTextOffset=1)
        for each in (axis, time):
            font = QFont(self.font())
            font.setPointSizeF(0.8 * font.pointSizeF())
            each.setTickFont(font)
        self._area.showGrid(y=True, alpha=0.15)
        self._show_span(SPAN_S)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.legend)
        column.addWidget(self._area, 1)
        self._write_legend()

    def restyle(self, ground: QColor, ink: QColor) -> None:
        self._area.setBackground(ground)
        for side in ("left", "bottom"):
            axis = self._area.getAxis(side)
            axis.setPen(ink)
            axis.setTextPen(ink)

    def redraw(self, samples: Sequence[tuple[float, Sample]], *, now_s: float, whole: bool) -> None:
        """Draw these samples; a series without a value gets a gap, never a 0."""
        if not samples:
            return
        span_s = max(SPAN_S, now_s - samples[0][0]) if whole else SPAN_S
        self._show_span(span_s)
        names = self._series or tuple(
            dict.fromkeys(name for _, each in samples for name in each if name.startswith(STAGE))
        )
        self._latest = {name: samples[-1][1].get(name) for name in names}
        self._write_legend()
        times = [at_s - now_s for at_s, _ in samples]
        top = 0.0
        for place, name in enumerate(names):
            values = [each.get(name) for _, each in samples]
            known = [value for value in values if value is not None]
            if not known and name not in self._curves:
                continue
            top = max(top, *known, 0.0)
            if name not in self._curves:
                pen = self._pyqtgraph.mkPen(_COLOURS[place % len(_COLOURS)], width=2)
                self._area.getAxis("left").setStyle(showValues=True)
                self._curves[name] = self._area.plot(pen=pen, connect="finite")
            drawn = [math.nan if value is None else value for value in values]
            self._curves[name].setData(times, drawn)
        for name in self._curves.keys() - set(names):
            self._curves[name].setData([], [])
        self._area.setYRange(0, _round_up(top), padding=0.06)

    def _show_span(self, span_s: float) -> None:
        if span_s != self._span_s:
            self._span_s = span_s
            self._area.getAxis("bottom").setTicks([time_ticks(span_s)])
            self._area.setXRange(-span_s, 0, padding=0)

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
        return ", ".join(f"{name} {value}" for name, value in self._named())

    def _named(self) -> list[Figure]:
        told = ((name.removeprefix(STAGE), value) for name, value in self._latest.items())
        return [
            (texts.SERIES.get(name, name), texts.UNAVAILABLE if value is None else _figure(value))
            for name, value in told
        ]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, so that the axis stays calm."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


class Instruments(QWidget):
    """Plots and table. It samples four times a second, and repaints one plot after another.

    Samples of all sources are kept while it is hidden too: the plots know the run from its start.
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
        self.histories: dict[str, History] = {}  # by the source's name
        self._colours = QColor("white"), QColor("gray")
        self._turn = self._stale = 0  # which plot is next, and how many show what is over
        self._next_s = 0.0
        self.table, self.span = CountsTable(), QComboBox()
        self.span.addItems(texts.SPANS)
        self.span.setAccessibleName(texts.SPAN_TIP)
        self.span.setToolTip(texts.SPAN_TIP)
        self.span.currentIndexChanged.connect(lambda: self.show_now())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Enough to read the plots, and on a small screen less; the view gets the rest."""
        screen = QApplication.primaryScreen()
        high = 1080 if screen is None else screen.availableSize().height()
        return QSize(900, 260 if high > 700 else 185)

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
            plots = [(texts.PLOTS[name], series) for name, series in _PLOTS.items()]
            self._pyqtgraph, self._missing = pyqtgraph, plots
        side = QVBoxLayout()
        side.addWidget(self.span)
        side.addWidget(QLabel(texts.IN_PICTURE))
        side.addWidget(self.table, 1)
        self._row.addLayout(side)

    def restyle(self, *, ground: QColor, ink: QColor) -> None:
        self._colours = ground, ink
        for plot in self.plots:
            plot.restyle(ground, ink)

    def show_now(self) -> None:
        """Repaint all plots, one a tick; where ticks are slow, none is always the last."""
        self._stale = len(self.plots)

    def tick(self, states: Callable[[], Mapping[str, SessionState]], shown: str) -> None:
        """Take samples when it is time; repaint a plot of ``shown``, or make one that is missing.

        ``states`` tells how the sources are, by name.
        """
        now_s = monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + SAMPLE_S
            for name, state in states().items():
                self.histories.setdefault(name, History()).add(now_s, state)
            self.show_now()
        if not self.isVisible():
            return
        if self._missing:
            plot = Plot(*self._missing.pop(0), self._pyqtgraph)
            plot.restyle(*self._colours)
            self._grid.addWidget(plot, len(self.plots) // 3, len(self.plots) % 3)
            self.plots.append(plot)
            self.show_now()
        elif self._stale:
            history, whole = self.histories[shown], self.span.currentIndex() == 1
            newest = history.last_minute[-1]
            samples = [*history.whole, newest] if whole else history.last_minute
            self._turn, self._stale = (self._turn + 1) % len(self.plots), self._stale - 1
            self.plots[self._turn].redraw(samples, now_s=now_s, whole=whole)


_PLOTS: dict[str, Sequence[str]] = {  # name in texts.PLOTS: series; stages name themselves
    "stages": (),
    "age": ("age_p50", "age_p95"),
    "fps": ("fps", "capture_fps", "drops"),
    "load": ("cpu", "gpu"),
    "memory": ("memory", "gpu_memory"),
    "heat": ("temperature", "power"),
}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


_GROUND, _NAME, _VALUE = QColor(24, 24, 27), QColor(140, 142, 150), QColor(236, 236, 238)
_ALERT = QColor(255, 120, 120)
_GAP = 18.0  # logical pixels between figures
_LONG, _LEAST = 260.0, 120.0  # a figure that is as long may be cut down to so much


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
                told = QFontMetricsF(bold).horizontalAdvance(f"{name} {value}")
                if x + (told if told < _LONG else _LEAST) > end:
                    break  # a piece of a number tells nothing
                x = self._write(painter, name, self.font(), _NAME, x, end) + 6
                x = self._write(painter, value, bold, _VALUE, x, end) + _GAP
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


def badges_of(state: SessionState) -> list[str]:
    """What is to be seen at once: that it records, or stands. Pictures stand always."""
    paused = state.source.paused and pictures_of(state.source) is None
    return [texts.RECORDING] * bool(state.recording_to) + [texts.PAUSED] * paused


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
