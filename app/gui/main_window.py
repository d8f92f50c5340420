"""What does the window consist of, and what does each control do?"""

from __future__ import annotations

from collections.abc import Callable

from PyQt5.QtCore import QSize, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QPalette
from PyQt5.QtWidgets import (
    QApplication,
    QMainWindow,
    QMenu,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.gui import texts
from app.gui.actions import Actions
from app.gui.banners import Banners
from app.gui.controls import Controls
from app.gui.dialogs import (
    ask_file,
    ask_folder,
    ask_url,
    means_reset,
    show_about,
    show_keys,
)
from app.gui.docks import Docks
from app.gui.follower import Follower
from app.gui.geometry import STEP
from app.gui.hud import Hud
from app.gui.instruments import Instruments
from app.gui.memory import DRAWN, Memory
from app.gui.ports import Desk
from app.gui.run_controls import RunControls
from app.gui.settings import Settings
from app.gui.sources import dropped_source
from app.gui.theme import Theme
from app.gui.timeline import Timeline
from app.gui.toolbar import ToolBar
from app.gui.view import ResultView, with_toggle

TICK_MS = 16  # about a screen's own rate
PAN_PX = 40


class MainWindow(QMainWindow):
    """Pulls the newest result and state on its own clock, and asks the desk for everything else.

    ``ended`` is called once, when the window has closed.
    """

    def __init__(self, desk: Desk, settings: Settings, ended: Callable[[], None]) -> None:
        super().__init__()
        self.desk, self.settings, self._ended = desk, settings, ended
        self.view, self.hud, self.timeline = ResultView(texts.WAITING), Hud(), Timeline()
        self.view.setAccessibleName(texts.VIEW_NAME)
        self.actions_ = Actions(self)
        self.run = RunControls(desk, settings, self.view)
        self.banners = Banners(self.view, self.run.do)
        self.tools = ToolBar(self, desk, settings, self.actions_)
        self.controls, self.instruments = Controls(self.actions_), Instruments()
        self._arrange()
        self._connect()
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.theme = Theme(app, self._restyle)
        self.memory.restore()
        desk.refresh()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        # Besides painting, it gives Python a turn: that is when signals are handled.
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)
        self.view.setFocus()

    def _arrange(self) -> None:
        self.setWindowTitle(texts.TITLE)
        self.setAcceptDrops(True)
        self.setDockOptions(QMainWindow.DockOption.AnimatedDocks)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        centre.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        column.addWidget(self.view, 1)
        column.addWidget(self.timeline)
        column.addWidget(self.hud)
        self.setCentralWidget(centre)
        self.addToolBar(self.tools)
        self.docks = Docks(
            self, self.actions_, controls=self.controls, instruments=self.instruments
        )
        bar = self.menuBar()
        assert bar is not None
        themes = self.actions_.fill(bar, lambda choice: self.memory.choose_theme(choice))
        self.memory = Memory(
            self,
            self.settings,
            self.actions_,
            themes=themes,
            apply_theme=lambda choice: self.theme.choose(choice),
        )
        self.follower = Follower(self)
        self.resize(1200, 760)

    def _connect(self) -> None:
        acts = self.actions_
        acts.connect(
            {
                "open_file": lambda: ask_file(self, self.show_source),
                "open_folder": lambda: ask_folder(self, texts.FOLDER_TITLE, self.show_source),
                "open_url": lambda: ask_url(self, self.show_source),
                "snapshot": lambda: self.run.snapshot(self.banners),
                "record": self.run.record,
                "folder": lambda: ask_folder(self, texts.SAVE_TITLE, self.run.save_to),
                "quit": self.close,
                "pause": self.desk.pause,
                "step": self.desk.step,
                "back": lambda: self.run.move(-5),
                "forward": lambda: self.run.move(5),
                "restart": self.run.restart,
                "fit": self.view.fit,
                "one_to_one": self.view.one_to_one,
                "zoom_in": lambda: self.view.zoom_by(STEP),
                "zoom_out": lambda: self.view.zoom_by(1 / STEP),
                "full_screen": self._full_screen,
                "hud": self.hud.setVisible,
                "instruments": self._prepare_instruments,
                "shortcuts": lambda: show_keys(self),
                "reset": self.ask_reset,
                "about": lambda: show_about(self),
                **{name: self._toggle_drawn(name) for name in DRAWN},
            }
        )
        self.tools.source_chosen.connect(self.show_source)
        self.tools.choice_made.connect(self.run.choose)
        self.timeline.moved.connect(self.desk.seek)
        self.controls.thresholds.connect(self.run.set_thresholds)
        self.controls.defaults.connect(self.run.default_thresholds)
        self.controls.hidden_changed.connect(self.run.hide)

    def show_source(self, uri: str) -> None:
        """Change to this source; what was said of another one is no news any more."""
        self.banners.forget_notice()
        self.run.show_source(uri)

    def ask_reset(self) -> None:
        """Forget everything, if the user means it."""
        if means_reset(self):
            self.reset()

    def reset(self) -> None:
        """As on the first day."""
        self.memory.reset()
        self.controls.set_all(True)
        self.run.default_thresholds()
        self.view.fit()

    def tick(self) -> None:
        """Show what is new; close once the run has ended."""
        if self.follower.follow():
            self.view.present_now()
            self.view.repaint()
            self.close()

    def _restyle(self) -> None:
        colours = self.palette()
        ink = colours.color(QPalette.ColorRole.ButtonText)
        self.actions_.restyle(ink)
        self.tools.restyle(ink)
        self.instruments.restyle(
            ground=colours.color(QPalette.ColorRole.Base),
            ink=colours.color(QPalette.ColorRole.PlaceholderText),
        )

    def _toggle_drawn(self, name: str) -> Callable[[bool], None]:
        def toggle(on: bool) -> None:
            self.view.set_options(with_toggle(self.view.options, name, on))

        return toggle

    def _prepare_instruments(self, on: bool) -> None:
        if on:
            self.instruments.build()
            self._restyle()

    def _full_screen(self, on: bool) -> None:
        bar = self.menuBar()
        assert bar is not None
        for each in (bar, self.tools):
            each.setVisible(not on)
        self.docks.put_away(on)
        self.showFullScreen() if on else self.showNormal()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """What no control has taken."""
        if event is None:
            return
        key = event.key()
        if key == Qt.Key.Key_Escape:
            if self.isFullScreen():
                self.actions_["full_screen"].setChecked(False)
            elif not self.banners.dismiss_one():
                self.close()
        elif key == Qt.Key.Key_Space and self.view.hasFocus():
            self.actions_["pause"].toggle()
        elif key in _ARROWS and self.view.hasFocus():
            dx, dy = _ARROWS[key]
            if self.view.zoom is not None:
                self.view.pan(-dx * PAN_PX, -dy * PAN_PX)
            elif dx:
                self.run.move(dx)
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802
        """Take what is a source."""
        if event is not None and dropped_source(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802
        """Show it."""
        uri = dropped_source(event.mimeData()) if event is not None else None
        if event is not None and uri is not None:
            event.acceptProposedAction()
            self.show_source(uri)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """The run ends with the window."""
        if self._timer.isActive():
            self._timer.stop()
            self.memory.remember(self.run.hidden)
            self.view.close_presenter()
            self._ended()
        super().closeEvent(event)

    def createPopupMenu(self) -> QMenu | None:  # noqa: N802
        """No menu for hiding the toolbar for good."""
        return None

    def sizeHint(self) -> QSize:  # noqa: N802
        """Room for a 16:9 picture and the controls."""
        return QSize(1200, 760)


_ARROWS: dict[int, tuple[int, int]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}
