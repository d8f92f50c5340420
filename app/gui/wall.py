"""The window of several sources at once: a tile for each, in a grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from PyQt5.QtCore import QEvent, QObject, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QCloseEvent, QKeyEvent, QKeySequence, QPalette
from PyQt5.QtWidgets import QApplication, QGridLayout, QMainWindow, QShortcut, QVBoxLayout, QWidget

from ..core.states import WORKING
from ..core.stats import PipelineStats
from . import texts
from .instruments import Hud, speed_figures
from .messages import may_end, roomy
from .ports import MultiViewController
from .theme import Theme
from .view import BACKDROP, ResultView

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
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.view, 1)
        column.addWidget(self.line)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Take a double click as the choice of this tile, before the view zooms on it."""
        if event is not None and event.type() == QEvent.Type.MouseButtonDblClick:
            self.chosen.emit()
            return True
        return super().eventFilter(watched, event)

    def show_stats(self, stats: PipelineStats) -> None:
        """Show the figures, and dim the frame of a source that is not live."""
        works = stats.state in WORKING
        self.view.set_dimmed(not works)
        hint = f"{self.name}: {stats.status.text}"
        self.view.set_hint(hint)
        named = [("", self.name)] if works else []
        figures = speed_figures(stats.fps, stats.age_ms[:2], stats.dropped)
        self.line.set_figures([*named, *figures], [] if works else [hint])


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
        self.resize(roomy(1200, 760))
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)

    def _add_keys(self) -> None:
        keys: dict[str, Callable[[], Any]] = {
            **{"Q": self._quit, "Ctrl+Q": self._quit, "F11": self._full_screen, "0": self.show_all},
            **{key: partial(self._toggle, option) for key, option in _TOGGLES.items()},
            **{str(n): partial(self.show_alone, t) for n, t in enumerate(self.tiles[:9], 1)},
        }
        for key, do in keys.items():
            QShortcut(QKeySequence(key), self).activated.connect(do)

    def show_alone(self, tile: Tile) -> None:
        """Show only this tile; all tiles if it is alone already."""
        if self._alone is tile:
            self.show_all()
            return
        self._alone = tile
        for each in self.tiles:
            each.setVisible(each is tile)

    def show_all(self) -> None:
        """Show all tiles in the grid."""
        self._alone = None
        for each in self.tiles:
            each.setVisible(True)

    def tick(self) -> None:
        """Show new results at once, figures every SLOW_S."""
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
            tile.view.set_drawn(option, on)

    def _quit(self) -> None:
        if self._may_end():
            self.close()

    def _may_end(self) -> bool:
        return may_end(self, outputs=self._controller.has_outputs, recording=False)

    def _full_screen(self) -> None:
        self.showNormal() if self.isFullScreen() else self.showFullScreen()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Escape leaves full screen, then a single tile."""
        if event is None or event.key() != Qt.Key.Key_Escape:
            super().keyPressEvent(event)
        elif self.isFullScreen():
            self.showNormal()
        else:
            self.show_all()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """End the run with the window; ask first where the user's click ends outputs."""
        if event is not None and event.spontaneous() and not self._may_end():
            event.ignore()
            return
        if self._timer.isActive():
            self._timer.stop()
            for tile in self.tiles:
                tile.view.close_presenter()
            self._ended()
        super().closeEvent(event)
