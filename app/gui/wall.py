"""How are several sources shown at once?"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from time import monotonic

from PyQt5.QtCore import QEvent, QObject, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QCloseEvent, QKeyEvent, QKeySequence, QPalette
from PyQt5.QtWidgets import QApplication, QGridLayout, QMainWindow, QShortcut, QWidget

from ..core.stats import WORKING, PipelineStats
from . import texts
from .instruments import Figure, Hud
from .ports import MultiViewController
from .theme import Theme
from .view import BACKDROP, ResultView, with_toggle

TICK_MS = 33
SLOW_S = 0.25  # figures: slow enough to be read
_TOGGLES = {"B": "boxes", "L": "labels", "K": "keypoints"}


class Tile(QWidget):
    """One source: its newest result, and a line of figures under it."""

    chosen = pyqtSignal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.view, self.line = ResultView(texts.OPENING.format(label=name)), Hud()
        self.view.setMinimumSize(96, 54)
        self.view.setAccessibleName(f"{texts.VIEW_NAME}: {name}")
        self.view.installEventFilter(self)
        column = QGridLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.view, 0, 0)
        column.addWidget(self.line, 1, 0)
        column.setRowStretch(0, 1)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """A double click means the whole tile, not the zoom of its picture."""
        if event is not None and event.type() == QEvent.Type.MouseButtonDblClick:
            self.chosen.emit()
            return True
        return super().eventFilter(watched, event)

    def show_stats(self, stats: PipelineStats) -> None:
        """Figures, and a veil over a picture that is old."""
        works = stats.state in WORKING
        self.view.set_dimmed(not works)
        self.view.set_hint(f"{self.name}: {stats.state}")
        told = [] if works else [f"{self.name}: {stats.state}"]
        self.line.set_figures(_figures("" if told else self.name, stats), told)


class Wall(QMainWindow):
    """All sources in a grid; one of them alone after a double click or its digit.

    Like the other window it only pulls: the newest result of each source, on its own clock.
    ``ended`` is called once, when it has closed.
    """

    def __init__(self, controller: MultiViewController, ended: Callable[[], None]) -> None:
        super().__init__()
        self._controller, self._ended = controller, ended
        self._alone: Tile | None = None
        self._next_slow_s = 0.0
        self.setWindowTitle(f"{', '.join(controller.names)} — {texts.TITLE}")
        centre = QWidget()
        ground = QPalette()
        ground.setColor(QPalette.ColorRole.Window, BACKDROP)
        centre.setPalette(ground)
        centre.setAutoFillBackground(True)
        self._grid = QGridLayout(centre)
        self._grid.setContentsMargins(2, 2, 2, 2)
        self._grid.setSpacing(2)
        self.setCentralWidget(centre)
        self.tiles = [Tile(name) for name in controller.names]
        columns = math.ceil(math.sqrt(len(self.tiles)))
        for number, tile in enumerate(self.tiles):
            self._grid.addWidget(tile, number // columns, number % columns)
            tile.chosen.connect(partial(self.show_alone, tile))
        self._add_keys()
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.theme = Theme(app, lambda: None)
        self.resize(1200, 760)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)

    def _add_keys(self) -> None:
        def key(text: str, do: Callable[[], None]) -> None:
            QShortcut(QKeySequence(text), self).activated.connect(do)

        def leave() -> None:
            self.close()

        for text in ("Q", "Ctrl+Q"):
            key(text, leave)
        key("F11", self._full_screen)
        for text, option in _TOGGLES.items():
            key(text, partial(self._toggle, option))
        for number, tile in enumerate(self.tiles[:9], 1):
            key(str(number), partial(self.show_alone, tile))
        key("0", self.show_all)

    def show_alone(self, tile: Tile) -> None:
        """Only this one; it again brings all back."""
        if self._alone is tile:
            self.show_all()
            return
        self._alone = tile
        for each in self.tiles:
            each.setVisible(each is tile)

    def show_all(self) -> None:
        """The grid."""
        self._alone = None
        for each in self.tiles:
            each.setVisible(True)

    def tick(self) -> None:
        """Show what is new."""
        for tile in self.tiles:
            shown = self._controller.take(tile.name)
            if shown is not None:
                tile.view.set_result(*shown)
        now_s = monotonic()
        if now_s >= self._next_slow_s:
            self._next_slow_s = now_s + SLOW_S
            for tile, stats in zip(self.tiles, self._controller.stats(), strict=True):
                tile.show_stats(stats)

    def _toggle(self, option: str) -> None:
        on = not getattr(self.tiles[0].view.options, option)
        for tile in self.tiles:
            tile.view.set_options(with_toggle(tile.view.options, option, on))

    def _full_screen(self) -> None:
        self.showNormal() if self.isFullScreen() else self.showFullScreen()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Escape: out of the full screen, back to all, then out."""
        if event is None or event.key() != Qt.Key.Key_Escape:
            super().keyPressEvent(event)
        elif self.isFullScreen():
            self.showNormal()
        elif self._alone is not None:
            self.show_all()
        else:
            self.close()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """The run ends with the window."""
        if self._timer.isActive():
            self._timer.stop()
            for tile in self.tiles:
                tile.view.close_presenter()
            self._ended()
        super().closeEvent(event)


def _figures(name: str, stats: PipelineStats) -> list[Figure]:
    def said(value: float, form: str) -> str:
        return texts.NO_FIGURE if math.isnan(value) else form.format(value)

    p50, p95, _ = stats.age_ms
    return [
        *([("", name)] if name else []),
        (texts.FPS, f"{stats.fps:.1f}"),
        (texts.AGE, f"{said(p50, '{:.0f}')} / {said(p95, '{:.0f} ms')}"),
        (texts.DROPPED, str(sum(stats.dropped.values()))),
    ]
