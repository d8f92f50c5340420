"""How did the run do in the last minute, and what is in the picture now?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import monotonic
from typing import Any

from PyQt5.QtCore import QSize
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from app.detections import Result
from app.gui import texts
from app.gui.counts import CountsTable, counts_of
from app.gui.plot import Plot, Sample
from app.session_state import SessionState

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
    """Plots and table. It samples four times a second, and repaints one plot after another."""

    def __init__(self) -> None:
        super().__init__()
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(10, 6, 10, 8)
        self._row.setSpacing(10)
        self._grid = QGridLayout()
        self._pyqtgraph: Any = None
        self._missing: list[tuple[str, Sequence[str]]] = []  # plots to be made, one a tick
        self._plots: list[Plot] = []
        self._colours = QColor("white"), QColor("gray")
        self._turn = 0
        self._next_s = 0.0
        self._drops: tuple[float, int] | None = None
        self.table = CountsTable()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Enough to read them: the picture gets the rest. Who wants larger plots pulls them up."""
        return QSize(900, 230)

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
        for plot in self._plots:
            plot.restyle(ground, ink)

    @property
    def plots(self) -> Sequence[Plot]:
        """For who wants to look at what they show."""
        return self._plots

    def tick(self, state: SessionState) -> None:
        """Take a sample when it is time; repaint one plot, or make one that is still missing."""
        now_s = monotonic()
        if self._missing:
            self._add_plot(*self._missing.pop(0))
            return
        if now_s >= self._next_s:
            self._next_s = now_s + SAMPLE_S
            sample = self._sample(state, now_s)
            for plot in self._plots:
                if plot.title == texts.PLOT_STAGES:
                    plot.add(now_s, state.figures.stages_ms)
                else:
                    plot.add(now_s, sample)
            self._turn = 0
        if self._turn < len(self._plots):
            self._plots[self._turn].redraw(now_s)
            self._turn += 1

    def _add_plot(self, title: str, series: Sequence[str]) -> None:
        plot = Plot(title, series, self._pyqtgraph)
        plot.restyle(*self._colours)
        self._grid.addWidget(plot, len(self._plots) // 3, len(self._plots) % 3)
        self._plots.append(plot)

    def show_result(
        self, shown: tuple[Result, Sequence[str]] | None, hidden: frozenset[str]
    ) -> None:
        """What is in the picture now."""
        if shown is None:
            return
        result, labels = shown
        self.table.show_counts(counts_of(result, labels, hidden))

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
