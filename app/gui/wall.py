"""The pictures of all sources: one alone fills the window, several stand in a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from time import monotonic_ns

from PyQt5.QtCore import QEvent, QObject, pyqtSignal
from PyQt5.QtGui import QPainter, QPaintEvent, QPalette
from PyQt5.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from ..session.state import SessionState
from . import texts
from .instruments import Hud, badges_of, speed_figures
from .messages import Messages, hint, messages
from .ports import RunController
from .view import BACKDROP, ResultView

EDGE_PX = 2  # around the picture of the selected source


class Tile(QWidget):
    """One source: its picture and, among ``several``, a line of figures under it."""

    chosen = pyqtSignal()  # it was clicked, or has got the focus
    opened = pyqtSignal()  # it was clicked twice

    def __init__(self, controller: RunController, *, several: bool) -> None:
        super().__init__()
        self.controller, self.name, self._several = controller, controller.name, several
        self._result_ns = 0  # when the newest result came; 0 before the first
        self._selected = False
        self.view, self.line = ResultView(texts.WAITING), Hud()
        self.view.setAccessibleName(
            f"{texts.VIEW_NAME}: {self.name}" if self.name else texts.VIEW_NAME
        )
        column = QVBoxLayout(self)
        column.setSpacing(0)
        column.addWidget(self.view, 1)
        edge_px = EDGE_PX if several else 0
        column.setContentsMargins(edge_px, edge_px, edge_px, edge_px)
        if several:
            self.view.setMinimumSize(64, 20)  # so that 36 fit a small screen
            self.view.installEventFilter(self)
            column.addWidget(self.line)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Tell of clicks. A double one goes to this tile, before the view zooms on it."""
        kind = None if event is None else event.type()
        if kind in (QEvent.Type.MouseButtonPress, QEvent.Type.FocusIn):
            self.chosen.emit()
        elif kind == QEvent.Type.MouseButtonDblClick:
            self.opened.emit()
            return True
        return super().eventFilter(watched, event)

    def select(self, on: bool) -> None:
        self._selected = on
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        highlight = self.palette().color(QPalette.ColorRole.Highlight)
        painter.fillRect(self.rect(), highlight if self._selected else BACKDROP)
        painter.end()

    def take(self) -> bool:
        """Show the newest result; False if there is none since the last time."""
        shown = self.controller.take()
        if shown is None:
            return False
        self._result_ns = monotonic_ns()
        self.view.set_result(*shown)
        return True

    def show_state(self, state: SessionState) -> Messages:
        """Show how the source is; returns what is to be told at length."""
        now_ns = monotonic_ns()
        said = messages(state, now_ns=now_ns, result_ns=self._result_ns)
        self.view.set_dimmed(said.dimmed)
        words = hint(state, now_ns)
        if self._several:
            now, source = state.figures, state.source
            phase = texts.PHASES.get(source.phase, "")
            title = f"{self.name}: {phase}" if phase else self.name
            alarm = said.dimmed and bool(phase)
            figures = speed_figures(now.fps, (now.age_p50_ms, now.age_p95_ms), now.dropped)
            named = [] if alarm else [("", title)]
            self.line.set_figures([*named, *figures], [title] * alarm + badges_of(state))
            words = f"{self.name}\n{words or source.error or state.failure}"
        self.view.set_hint(words)
        return said


class Wall(QWidget):
    """A tile for each source, one of which is selected; ``alone``: only that one is shown."""

    selected = pyqtSignal()

    def __init__(self, controllers: Sequence[RunController]) -> None:
        super().__init__()
        self.tiles = [Tile(each, several=len(controllers) > 1) for each in controllers]
        self.alone = False
        self._at = 0
        columns = math.ceil(math.sqrt(len(self.tiles)))
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setSpacing(0)
        for number, tile in enumerate(self.tiles):
            self.grid.addWidget(tile, number // columns, number % columns)
            tile.chosen.connect(partial(self.select, number))
            tile.opened.connect(lambda: self.show_alone(not self.alone))
        self.tile.select(self.several)

    @property
    def several(self) -> bool:
        return len(self.tiles) > 1

    @property
    def tile(self) -> Tile:
        return self.tiles[self._at]

    def select(self, number: int) -> None:
        if number == self._at:
            return
        self.tile.select(False)
        self._at = number
        self.tile.select(True)
        self.show_alone(self.alone)
        self.tile.view.setFocus()
        self.selected.emit()

    def turn(self, by: int) -> None:
        self.select((self._at + by) % len(self.tiles))

    def show_alone(self, on: bool) -> None:
        self.alone = on
        for tile in self.tiles:
            tile.setVisible(tile is self.tile or not on)
