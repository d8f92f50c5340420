"""The main window: its parts, docks, remembered placement, and how it follows the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic, monotonic_ns
from typing import Any

from PyQt5.QtCore import QSize, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QPalette
from PyQt5.QtWidgets import (
    QActionGroup,
    QApplication,
    QDockWidget,
    QFrame,
    QMainWindow,
    QMenu,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ..session.state import SessionState
from . import texts
from .actions import Actions
from .controls import Controls
from .dialogs import ask_file, ask_folder, ask_url, means_reset, show_about, show_keys
from .instruments import Hud, Instruments, figures_of
from .messages import Banners, hint, messages
from .ports import RunController, Settings
from .run_controls import RunControls
from .theme import Theme
from .timeline import Timeline
from .toolbar import ToolBar, dropped_source
from .view import STEP, ResultView, with_toggle

BAR_PX = 14  # a scroll bar's width, always left free, so that nothing jumps
_FEATURES: Any = (
    QDockWidget.DockWidgetFeature.DockWidgetMovable
    | QDockWidget.DockWidgetFeature.DockWidgetClosable
)


class Docks:
    """Controls to the right, instruments below. Each follows its switch, and the switch its cross.

    ``put_away`` hides them for a while, in full screen, and leaves the switches as they are.
    """

    def __init__(
        self, window: QMainWindow, actions: Actions, *, controls: QWidget, instruments: QWidget
    ) -> None:
        self._window, self._actions, self._away = window, actions, False
        right, below = (
            Qt.DockWidgetArea.RightDockWidgetArea,
            Qt.DockWidgetArea.BottomDockWidgetArea,
        )
        self._docks = {
            "controls": self._add(texts.CONTROLS, _scrolling(controls), right),
            "instruments": self._add(texts.INSTRUMENTS, instruments, below),
        }
        for name, dock in self._docks.items():
            dock.hide()
            toggle = dock.toggleViewAction()
            assert toggle is not None
            toggle.toggled.connect(self._follow(name))
            actions[name].toggled.connect(dock.setVisible)

    def __getitem__(self, name: str) -> QDockWidget:
        return self._docks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._docks)

    def put_away(self, away: bool) -> None:
        """Hide all of them, or show those that are switched on."""
        self._away = True
        for name, dock in self._docks.items():
            dock.setVisible(self._actions[name].isChecked() and not away)
        self._away = away

    def _add(self, title: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self._window)
        dock.setObjectName(title)
        dock.setWidget(content)
        dock.setFeatures(_FEATURES)
        self._window.addDockWidget(area, dock)
        return dock

    def _follow(self, name: str) -> Callable[[bool], None]:
        def follow(visible: bool) -> None:
            if not self._away and not self._window.isMinimized():
                self._actions[name].setChecked(visible)

        return follow


def _scrolling(content: QWidget) -> QScrollArea:
    """In a small window what has no room is scrolled to."""
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its content is what one tabs to
    area.setWidget(content)
    area.setMinimumWidth(content.minimumSizeHint().width() + BAR_PX)
    return area


SLOW_S = 0.25  # figures and lists: slow enough to be read


class Follower:
    """Asked at every tick: the newest result at once, everything else four times a second."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        self._next_slow_s = 0.0
        self._result_ns = 0

    def follow(self) -> bool:
        """Show what is new; True once the run has ended."""
        window = self._window
        state = window.controller.state()  # asked first, so that a last result is not missed
        shown = window.controller.take()
        if shown is not None:
            self._result_ns = monotonic_ns()
            window.view.set_result(*shown)
        now_s = monotonic()
        if now_s >= self._next_slow_s or state.ended:
            self._next_slow_s = now_s + SLOW_S
            self._slow(state)
        if window.docks["instruments"].isVisible():
            window.instruments.tick(state)
        return state.ended

    def _slow(self, state: SessionState) -> None:
        self._picture(state)
        self._figures(state)
        self._controls(state)
        self._first_words(state)
        self._window.run.follow(state)

    def _picture(self, state: SessionState) -> None:
        """What is said over it."""
        window, now_ns = self._window, monotonic_ns()
        said = messages(state, now_ns=now_ns, result_ns=self._result_ns)
        window.banners.show_messages(said)
        window.banners.show_notice(state.notice)
        window.view.set_dimmed(said.dimmed)
        window.view.set_hint(hint(state, now_ns))

    def _figures(self, state: SessionState) -> None:
        window = self._window
        badges = [texts.RECORDING] if state.recording_to else []
        window.hud.set_figures(
            figures_of(state), [*badges, *([texts.PAUSED] * state.source.paused)]
        )
        covers = state.machine.power_covers
        window.hud.setToolTip(texts.POWER_COVERS.format(covers=covers) if covers else "")
        if window.docks["instruments"].isVisible():
            window.instruments.show_result(window.view.newest, window.run.hidden)

    def _controls(self, state: SessionState) -> None:
        window = self._window
        window.timeline.show_source(state.source)
        window.tools.show_state(state, window.controller.catalogue())
        window.controls.show_thresholds(state.score, state.iou)
        window.controls.show_classes(state.labels, window.run.hidden)
        self._show_checked("pause", state.source.paused)
        self._show_checked("record", bool(state.recording_to))
        for name in ("back", "forward"):
            window.actions_[name].setEnabled(state.source.seekable)
        title = f"{window.tools.source.text()} — {texts.TITLE}"
        if title != window.windowTitle():
            window.setWindowTitle(title)

    def _show_checked(self, name: str, on: bool) -> None:
        """What holds now, without asking for it."""
        action = self._window.actions_[name]
        if action.isChecked() != on:
            action.blockSignals(True)
            action.setChecked(on)
            action.blockSignals(False)
            self._window.tools.sync(action)
            self._window.actions_.show_face(name)

    def _first_words(self, state: SessionState) -> None:
        """The hint of the first run, for as long as nobody has chosen a source."""
        settings = self._window.settings
        wanted = state.source.uri == "sample:" and not settings.flag("hint_seen")
        self._window.banners.show_hint(
            texts.SAMPLE_HINT if wanted else "", lambda: settings.set("hint_seen", True)
        )


DRAWN = ("boxes", "labels", "scores", "keypoints")
_SWITCHES = (*DRAWN, "hud")
_DOCKS = ("controls", "instruments")


class Memory:
    """Switches, docks, theme, size and place. ``apply_theme`` takes "system", "dark" or "light"."""

    def __init__(
        self,
        window: QMainWindow,
        settings: Settings,
        actions: Actions,
        *,
        themes: QActionGroup,
        apply_theme: Callable[[str], None],
    ) -> None:
        self._window, self._settings, self._actions = window, settings, actions
        self._themes, self._apply_theme = themes, apply_theme

    def restore(self) -> None:
        """As it was left."""
        self._window.restoreGeometry(self._settings.state("geometry"))
        self.choose_theme(self._settings.text("theme"))
        for name in _SWITCHES:
            self._switch(name, self._settings.flag(name))
        for name in _DOCKS:
            self._switch(name, self._settings.flag(f"{name}_open"))

    def remember(self, hidden: frozenset[str]) -> None:
        """For the next time; ``hidden`` are the classes that are not shown."""
        if not self._window.isFullScreen():
            self._settings.set("geometry", self._window.saveGeometry())
        for name in _SWITCHES:
            self._settings.set(name, self._actions[name].isChecked())
        for name in _DOCKS:
            self._settings.set(f"{name}_open", self._actions[name].isChecked())
        self._settings.set("hidden", sorted(hidden))
        self._settings.save()

    def reset(self) -> None:
        """As on the first day."""
        self._settings.reset()
        for name in (*_SWITCHES, "controls"):
            self._switch(name, True)
        self._switch("instruments", False)
        self.choose_theme("system")

    def choose_theme(self, choice: str) -> None:
        """Apply it, and tick it in the menu."""
        choice = choice if choice in texts.THEMES else "system"
        self._settings.set("theme", choice)
        for action in self._themes.actions():
            action.setChecked(action.data() == choice)
        self._apply_theme(choice)

    def _switch(self, name: str, on: bool) -> None:
        """Also what follows the switch, where it stands as wanted already."""
        action = self._actions[name]
        if action.isChecked() == on:
            action.toggled.emit(on)
        action.setChecked(on)


TICK_MS = 16  # about a screen's own rate
PAN_PX = 40


class MainWindow(QMainWindow):
    """Pulls newest result and state on its own clock, and asks the controller for all else.

    ``ended`` is called once, when the window has closed.
    """

    def __init__(
        self, controller: RunController, settings: Settings, ended: Callable[[], None]
    ) -> None:
        super().__init__()
        self.controller, self.settings, self._ended = controller, settings, ended
        self.view, self.hud, self.timeline = ResultView(texts.WAITING), Hud(), Timeline()
        self.view.setAccessibleName(texts.VIEW_NAME)
        self.actions_ = Actions(self)
        self.run = RunControls(controller, settings, self.view)
        self.banners = Banners(self.view, self.run.do)
        self.tools = ToolBar(self, controller, settings, self.actions_)
        self.controls, self.instruments = Controls(self.actions_), Instruments()
        self._arrange()
        self._connect()
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.theme = Theme(app, self._restyle)
        self.memory.restore()
        controller.refresh()
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
                "pause": self.controller.pause,
                "step": self.controller.step,
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
        self.timeline.moved.connect(self.controller.seek)
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
