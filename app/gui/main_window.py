"""The main window: its parts, docks, remembered placement, and how it follows the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QPalette
from PyQt5.QtWidgets import (
    QApplication,
    QDockWidget,
    QFrame,
    QMainWindow,
    QMenu,
    QMessageBox,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from .. import __version__
from ..session.state import SessionState
from . import texts
from .actions import DRAWN, Actions, keys_text
from .controls import Controls, Timeline
from .instruments import Hud, Instruments, badges_of, counts_of, figures_of
from .messages import Banners, ask_path, ask_url, into_view, may_end, roomy, show_text
from .ports import SAMPLE, RunController, Settings
from .run_controls import RunControls
from .theme import Theme
from .toolbar import ToolBar, dropped_source
from .view import STEP, ResultView
from .wall import Wall
from .zone_editor import ZoneEditor

TICK_MS = 16  # about a screen's own rate
SLOW_S = 0.25  # figures and lists: slow enough to be read
PAN_PX = 40
BAR_PX = 14  # a scroll bar's width, always left free, so that nothing jumps
_REMEMBERED = {  # action: its setting
    **{name: name for name in (*DRAWN, "hud")},
    **{name: f"{name}_open" for name in ("controls", "instruments")},
}
_FEATURES: Any = (
    QDockWidget.DockWidgetFeature.DockWidgetMovable
    | QDockWidget.DockWidgetFeature.DockWidgetClosable
)
_ARROWS: dict[int, tuple[int, int]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


class MainWindow(QMainWindow):
    """Pulls newest results and states on its own clock, and asks the controllers for all else.

    There is a picture for each of ``controllers``; what a control does concerns the selected one.
    ``ended`` is called once, when the window has closed; ``speak`` when another language is
    wanted, which a new window speaks.
    """

    def __init__(
        self,
        controllers: Sequence[RunController],
        settings: Settings,
        ended: Callable[[], None],
        speak: Callable[[str], None] = lambda language: None,
    ) -> None:
        super().__init__()
        self.settings, self._ended, self._speak = settings, ended, speak
        self._next_slow_s = 0.0
        self._docks_away = False  # in full screen, which leaves their switches as they are
        self.wall, self.hud, self.timeline = Wall(controllers), Hud(), Timeline()
        self.actions_ = Actions(self)
        self.run = RunControls(self.wall, settings)
        # over a small picture among others there is no room for them
        self._above, several = QWidget(), self.wall.several
        over = self._above if several else self.view
        self.banners = Banners(over, self.run.do, stretched=not several)
        self.tools = ToolBar(self, self.controller, settings, self.actions_)
        self.controls, self.instruments = Controls(self.actions_), Instruments()
        self.zones = ZoneEditor(self.controller, self.view)
        self._arrange()
        self._connect()
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.theme = Theme(app, self._restyle)
        self._restore()
        self.controller.refresh()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        # Besides painting, it gives Python a turn: that is when signals are handled.
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)
        self.view.setFocus()

    @property
    def view(self) -> ResultView:
        return self.wall.tile.view

    @property
    def controller(self) -> RunController:
        return self.wall.tile.controller

    def _arrange(self) -> None:
        self.setWindowTitle(texts.TITLE)
        self.setAcceptDrops(True)
        self.setDockOptions(QMainWindow.DockOption.AnimatedDocks)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        centre.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        column.addWidget(self._above)
        self._above.setVisible(self.wall.several)
        column.addWidget(self.wall, 1)
        column.addWidget(self.timeline)
        column.addWidget(self.hud)
        self.setCentralWidget(centre)
        self.addToolBar(self.tools)
        right, below = (
            Qt.DockWidgetArea.RightDockWidgetArea,
            Qt.DockWidgetArea.BottomDockWidgetArea,
        )
        self.docks = {
            "controls": self._add_dock("controls", _scrolling(self.controls), right),
            "zones": self._add_dock("zones", _scrolling(self.zones), right),
            "instruments": self._add_dock("instruments", self.instruments, below),
        }
        bar = self.menuBar()
        assert bar is not None
        self.themes, languages = self.actions_.fill(bar, self.choose_theme, self._choose_language)
        for action in languages.actions():
            action.setChecked(action.data() == self.settings.text("language", "system"))
        names = [tile.name for tile in self.wall.tiles]
        sources = self.actions_.show_several(names, self.show_alone)
        if sources is not None:
            sources.setParent(bar, sources.windowFlags())
            bar.insertMenu(bar.actions()[-1], sources)
        self.resize(roomy(1200, 760))  # for a 16:9 picture and the controls

    def _add_dock(self, name: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        action = self.actions_[name]
        dock = QDockWidget(action.iconText(), self)
        dock.setObjectName(name)
        dock.setWidget(content)
        dock.setFeatures(_FEATURES)
        self.addDockWidget(area, dock)
        dock.hide()

        def follow(visible: bool) -> None:
            if not self._docks_away and not self.isMinimized():
                action.setChecked(visible)

        toggle = dock.toggleViewAction()
        assert toggle is not None
        toggle.toggled.connect(follow)
        action.toggled.connect(dock.setVisible)
        return dock

    def _connect(self) -> None:
        show, about = self.show_source, texts.ABOUT.format(version=__version__)
        self.actions_.connect(
            {
                "open_file": lambda: ask_path(
                    self, texts.FILE_TITLE, self.show_source, folder=False
                ),
                "open_folder": lambda: ask_path(self, texts.FOLDER_TITLE, show),
                "open_url": lambda: ask_url(self, show),
                "snapshot": lambda: self.run.snapshot(self.banners),
                "record": self.run.record,
                "folder": lambda: ask_path(self, texts.SAVE_TITLE, self.run.save_to),
                "quit": self._quit,
                "pause": self.run.pause,
                "pause_all": self.run.pause_all,
                "slower": lambda: self.run.change_speed(-1),
                "faster": lambda: self.run.change_speed(1),
                "loop": lambda on: self.controller.set_loop(on),
                "step": lambda: self.controller.step(),
                "step_back": self.run.step_back,
                "back": lambda: self.run.move(-5),
                "forward": lambda: self.run.move(5),
                "restart": self.run.restart,
                "fit": lambda: self.view.look(None),
                "one_to_one": lambda: self.view.look(1.0),
                "zoom_in": lambda: self.view.zoom_by(STEP),
                "zoom_out": lambda: self.view.zoom_by(1 / STEP),
                "grid": lambda: self.wall.show_alone(not self.wall.alone),
                "next": lambda: self.wall.turn(1),
                "previous": lambda: self.wall.turn(-1),
                "full_screen": self._full_screen,
                "hud": self.hud.setVisible,
                "instruments": self._prepare_instruments,
                "zones": self.zones.set_open,
                "shortcuts": lambda: show_text(self, texts.KEYS_TITLE, keys_text()),
                "reset": self._ask_reset,
                "about": lambda: show_text(self, texts.TITLE, about),
                **{name: partial(self._set_drawn, name) for name in DRAWN},
            }
        )
        self.tools.source.chosen.connect(self.show_source)
        self.tools.choice_made.connect(self.run.choose)
        self.zones.closed.connect(lambda: self.actions_["zones"].setChecked(False))
        self.wall.selected.connect(self._selected)
        self.timeline.moved.connect(lambda to_ns: self.controller.seek(to_ns))
        self.timeline.paced.connect(lambda speed: self.controller.set_speed(speed))
        self.timeline.looped.connect(lambda on: self.controller.set_loop(on))
        self.controls.thresholds.connect(self.run.set_thresholds)
        self.controls.defaults.connect(self.run.default_thresholds)
        self.controls.hidden_changed.connect(self.run.hide)
        self.controls.filters.changed.connect(partial(self.run.filter, self.controls.filters))

    def show_source(self, uri: str) -> None:
        self.banners.forget_notice()
        self.run.show_source(uri)

    def show_alone(self, number: int) -> None:
        self.wall.select(number)
        self.wall.show_alone(True)

    def _selected(self) -> None:
        """All controls are about another source from now on."""
        self.zones.move_to(self.controller, self.view)
        self.instruments.show_now()
        self._next_slow_s = 0.0
        self.tick()

    def _set_drawn(self, name: str, on: bool) -> None:
        for tile in self.wall.tiles:
            tile.view.set_drawn(name, on)

    # --- what is remembered -----------------------------------------------------------------------

    def _restore(self) -> None:
        """Switches, docks, theme, size and place as they were left."""
        if self.restoreGeometry(self.settings.state("geometry")) and not self.isMaximized():
            into_view(self)
        self.restoreState(self.settings.state("docks"))
        self.choose_theme(self.settings.text("theme"))
        for name, setting in _REMEMBERED.items():
            action, on = self.actions_[name], self.settings.flag(setting)
            if action.isChecked() == on:
                action.toggled.emit(on)  # for what follows it
            action.setChecked(on)

    def remember(self) -> None:
        """Write down switches, docks, size and place, for the next window."""
        if not self.isFullScreen():
            self.settings.set("geometry", self.saveGeometry())
            self.settings.set("docks", self.saveState())
        for name, setting in _REMEMBERED.items():
            self.settings.set(setting, self.actions_[name].isChecked())
        self.settings.save()

    def reset(self) -> None:
        self.settings.reset()
        self._restore()
        self.controls.set_all(True)
        self.run.default_thresholds()
        self.view.look(None)

    def _ask_reset(self) -> None:
        yes = QMessageBox.StandardButton.Yes
        if QMessageBox.question(self, texts.TITLE, texts.RESET_ASK) == yes:
            self.reset()

    def choose_theme(self, choice: str) -> None:
        """Apply "system", "dark" or "light", and tick it in the menu."""
        choice = choice if choice in texts.THEMES else "system"
        self.settings.set("theme", choice)
        for action in self.themes.actions():
            action.setChecked(action.data() == choice)
        self.theme.choose(choice)

    def _choose_language(self, language: str) -> None:
        self.settings.set("language", language)
        self._speak(language)

    # --- following the run ------------------------------------------------------------------------

    def tick(self) -> None:
        """Show new results at once, everything else four times a second; close after the end."""
        state = self.controller.state()  # asked first, so that a last result is not missed
        for tile in self.wall.tiles:
            if tile.take() and tile is self.wall.tile:
                self.zones.follow()
        now_s = monotonic()
        if now_s >= self._next_slow_s or state.ended:
            self._next_slow_s = now_s + SLOW_S
            self._show_messages(state)
            self.run.follow(state)
            self._show_figures(state)
            self._show_controls(state)
        self.instruments.tick(self._states, self.controller.name)
        if state.ended:
            for tile in self.wall.tiles:
                tile.view.present_now()
                tile.view.repaint()
            self.close()

    def _states(self) -> dict[str, SessionState]:
        return {tile.name: tile.controller.state() for tile in self.wall.tiles}

    def _show_messages(self, state: SessionState) -> None:
        for tile in self.wall.tiles:
            selected = tile is self.wall.tile
            said = tile.show_state(state if selected else tile.controller.state())
            if selected:
                self.banners.show_messages(said)
        self.banners.show_notice(state.notice)
        # the hint of the first run, for as long as nobody has chosen a source
        first = state.source.uri == SAMPLE and not self.settings.flag("hint_seen")
        self.banners.show_hint(texts.SAMPLE_HINT if first else "")

    def _show_figures(self, state: SessionState) -> None:
        self.hud.set_figures(figures_of(state), badges_of(state))
        covers = state.machine.power_covers
        self.hud.setToolTip(texts.POWER_COVERS.format(covers=covers) if covers else "")
        if self.view.newest and self.docks["instruments"].isVisible():
            table, newest = self.instruments.table, self.view.newest
            if newest[0].detections.track_ids is None:
                table.show_counts(counts_of(*newest, self.run.hidden))
            else:
                table.show_objects(self.view.objects.rows(*newest, self.run.hidden))

    def _show_controls(self, state: SessionState) -> None:
        self.timeline.show_source(state.source)
        self.tools.show_state(state, self.controller.catalogue())
        self.controls.show_thresholds(state.score, state.iou)
        self.controls.show_classes(state.labels, self.run.hidden)
        name = self.controller.name
        self.controls.filters.show_table(self.controller.filters.read(name))
        self.actions_["loop"].setChecked(state.source.loop)
        self.actions_["loop"].setEnabled(state.source.recording)
        for each in ("slower", "faster"):
            self.actions_[each].setEnabled(state.source.paceable)
        self.actions_["pause"].setChecked(state.source.paused)
        self.actions_["record"].setChecked(bool(state.recording_to))
        for each in ("back", "forward", "step_back"):
            self.actions_[each].setEnabled(state.source.seekable)
        title = f"{f'{name}: ' if name else ''}{self.tools.source.text()} — {texts.TITLE}"
        if title != self.windowTitle():
            self.setWindowTitle(title)

    def _restyle(self) -> None:
        colours = self.palette()
        ink = colours.color(QPalette.ColorRole.ButtonText)
        self.actions_.restyle(ink)
        self.tools.restyle(ink)
        self.instruments.restyle(
            ground=colours.color(QPalette.ColorRole.Base),
            ink=colours.color(QPalette.ColorRole.PlaceholderText),
        )

    def _prepare_instruments(self, on: bool) -> None:
        if on:
            self.instruments.build()
            self._restyle()

    def _full_screen(self, on: bool) -> None:
        bar = self.menuBar()
        assert bar is not None
        for each in (bar, self.tools):
            each.setVisible(not on)
        self._docks_away = True
        for name, dock in self.docks.items():
            dock.setVisible(self.actions_[name].isChecked() and not on)
        self._docks_away = on
        self.showFullScreen() if on else self.showNormal()

    # --- what Qt calls ----------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is None:
            return
        key = event.key()
        if key == Qt.Key.Key_Escape:
            if self.isFullScreen():
                self.actions_["full_screen"].setChecked(False)
            elif not self.zones.escape() and not self.banners.dismiss_one():
                self.wall.show_alone(False)
        elif key == Qt.Key.Key_Space and self.view.hasFocus():
            self.actions_["pause"].trigger()
        elif key in _ARROWS and self.view.hasFocus():
            dx, dy = _ARROWS[key]
            if self.view.zoom is not None:
                self.view.pan(-dx * PAN_PX, -dy * PAN_PX)
            elif dx:
                self.run.move(dx)
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802
        if event is not None and dropped_source(event.mimeData()) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802
        uri = dropped_source(event.mimeData()) if event is not None else None
        if event is not None and uri is not None:
            event.acceptProposedAction()
            self.show_source(uri)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """Remember the settings and end the run; ask first where the user's click ends outputs."""
        if event is not None and event.spontaneous() and not self._may_end():
            event.ignore()
            return
        if self._timer.isActive():
            self._timer.stop()
            self.remember()
            for tile in self.wall.tiles:
                tile.view.close_presenter()
            self._ended()
        super().closeEvent(event)

    def leave(self) -> None:
        self._ended = lambda: None
        self.close()
        self.deleteLater()

    def _quit(self) -> None:
        if self._may_end():
            self.close()

    def _may_end(self) -> bool:
        recording = any(state.recording_to for state in self._states().values())
        return may_end(self, outputs=self.controller.has_outputs, recording=recording)

    def createPopupMenu(self) -> QMenu | None:  # noqa: N802
        """No context menu: it could hide the toolbar for good."""
        return None


def _scrolling(content: QWidget) -> QScrollArea:
    """The content in a scroll area, for small windows."""
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its content is what one tabs to
    area.setWidget(content)
    area.setMinimumWidth(content.minimumSizeHint().width() + BAR_PX)
    return area
