"""What does the window consist of, and what does each control do?"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, monotonic_ns

from PyQt5.QtCore import QSize, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QPalette
from PyQt5.QtWidgets import (
    QApplication,
    QMainWindow,
    QMenu,
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
from app.gui.geometry import STEP
from app.gui.hud import Hud, figures_of
from app.gui.icons import icon
from app.gui.instruments import Instruments
from app.gui.messages import hint, messages
from app.gui.overlay import OverlayOptions
from app.gui.ports import Desk
from app.gui.run_controls import RunControls
from app.gui.settings import Settings
from app.gui.sources import dropped_source
from app.gui.theme import Theme
from app.gui.timeline import Timeline
from app.gui.toolbar import ToolBar
from app.gui.view import ResultView, with_toggle
from app.session_state import SessionState

TICK_MS = 16  # about a screen's own rate
SLOW_S = 0.25  # figures and lists: slow enough to be read
PAN_PX = 40
_DRAWN = ("boxes", "labels", "scores", "keypoints")


class MainWindow(QMainWindow):
    """Pulls the newest result and state on its own clock, and asks the desk for everything else.

    ``ended`` is called once, when the window has closed.
    """

    def __init__(self, desk: Desk, settings: Settings, ended: Callable[[], None]) -> None:
        super().__init__()
        self.desk, self.settings, self._ended = desk, settings, ended
        self._next_slow_s = 0.0
        self._result_ns = 0
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
        self._restore()
        desk.refresh()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        # Besides painting, it gives Python a turn: that is when signals are handled.
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)
        self.view.setFocus()

    # --- what is where -----------------------------------------------------------------------

    def _arrange(self) -> None:
        self.setWindowTitle(texts.TITLE)
        self.setAcceptDrops(True)
        self.setDockOptions(QMainWindow.DockOption.AnimatedDocks)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
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
        self._themes = self.actions_.fill(bar, self._choose_theme)
        self.resize(1200, 760)

    def _connect(self) -> None:
        acts = self.actions_
        acts.connect(
            {
                "open_file": lambda: ask_file(self, self.run.show_source),
                "open_folder": lambda: ask_folder(self, texts.FOLDER_TITLE, self.run.show_source),
                "open_url": lambda: ask_url(self, self.run.show_source),
                "snapshot": lambda: self.run.snapshot(self.banners),
                "record": self._record,
                "folder": lambda: ask_folder(self, texts.SAVE_TITLE, self.run.save_to),
                "quit": self.close,
                "pause": self._pause,
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
                **{name: self._toggle_drawn(name) for name in _DRAWN},
            }
        )
        self.tools.source_chosen.connect(self.run.show_source)
        self.tools.choice_made.connect(self.run.choose)
        self.timeline.moved.connect(self.desk.seek)
        self.controls.thresholds.connect(self.run.set_thresholds)
        self.controls.defaults.connect(self.run.default_thresholds)
        self.controls.hidden_changed.connect(self.run.hide)

    def _restyle(self) -> None:
        ink = self.palette().color(QPalette.ColorRole.ButtonText)
        for name in ("snapshot", "full_screen", "fit", "controls", "instruments", "step"):
            self.actions_[name].setIcon(icon(name, ink))
        self._set_pause_icon()
        self._set_record_icon()
        self.instruments.restyle(
            ground=self.palette().color(QPalette.ColorRole.Base),
            ink=self.palette().color(QPalette.ColorRole.PlaceholderText),
        )

    def _set_pause_icon(self) -> None:
        ink = self.palette().color(QPalette.ColorRole.ButtonText)
        action = self.actions_["pause"]
        action.setIcon(icon("play" if action.isChecked() else "pause", ink))

    def _set_record_icon(self) -> None:
        ink = self.palette().color(QPalette.ColorRole.ButtonText)
        action = self.actions_["record"]
        action.setIcon(icon("recording" if action.isChecked() else "record", ink))

    # --- what is remembered ------------------------------------------------------------------

    def _restore(self) -> None:
        self.restoreGeometry(self.settings.state("geometry"))
        for name in (*_DRAWN, "hud"):
            self.actions_[name].setChecked(self.settings.flag(name))
        self.view.set_options(OverlayOptions(*(self.settings.flag(name) for name in _DRAWN)))
        self.actions_["controls"].setChecked(self.settings.flag("controls_open"))
        self.hud.setVisible(self.settings.flag("hud"))
        self._choose_theme(self.settings.text("theme"))
        if self.settings.flag("instruments_open"):
            self.actions_["instruments"].setChecked(True)

    def _remember(self) -> None:
        if not self.isFullScreen():
            self.settings.set("geometry", self.saveGeometry())
        for name in (*_DRAWN, "hud"):
            self.settings.set(name, self.actions_[name].isChecked())
        for name in self.docks:
            self.settings.set(f"{name}_open", self.actions_[name].isChecked())
        self.settings.set("hidden", sorted(self.run.hidden))
        self.settings.save()

    def ask_reset(self) -> None:
        """Forget everything, if the user means it."""
        if means_reset(self):
            self.reset()

    def reset(self) -> None:
        """As on the first day."""
        self.settings.reset()
        for name in (*_DRAWN, "hud"):
            self.actions_[name].setChecked(True)
        self.actions_["controls"].setChecked(True)
        self.actions_["instruments"].setChecked(False)
        self.controls.set_all(True)
        self._choose_theme("system")
        self.run.default_thresholds()
        self.view.fit()

    # --- the clock ---------------------------------------------------------------------------

    def tick(self) -> None:
        """Fetch what is new; close once the run has ended."""
        state = self.desk.state()  # asked first, so that a last result is not missed
        shown = self.desk.take()
        if shown is not None:
            self._result_ns = monotonic_ns()
            self.view.set_result(*shown)
        now_s = monotonic()
        if now_s >= self._next_slow_s or state.ended:
            self._next_slow_s = now_s + SLOW_S
            self._slow(state)
        if self.docks["instruments"].isVisible():
            self.instruments.tick(state)
        if state.ended:
            self.view.present_now()
            self.view.repaint()
            self.close()

    def _slow(self, state: SessionState) -> None:
        now_ns = monotonic_ns()
        said = messages(state, now_ns=now_ns, result_ns=self._result_ns)
        self.banners.show_messages(said)
        self.banners.show_notice(state.notice)
        self.view.set_dimmed(said.dimmed)
        self.view.set_hint(hint(state, now_ns))
        badges = [texts.RECORDING] if state.recording_to else []
        self.hud.set_figures(figures_of(state), [*badges, *([texts.PAUSED] * state.feed.paused)])
        covers = state.machine.power_covers
        self.hud.setToolTip(texts.POWER_COVERS.format(covers=covers) if covers else "")
        self.timeline.show_feed(state.feed)
        self.tools.show_state(state, self.desk.catalogue())
        self.controls.show_thresholds(state.score, state.iou)
        self.controls.show_classes(state.labels, self.run.hidden)
        if self.docks["instruments"].isVisible():
            self.instruments.show_result(self.view.newest, self.run.hidden)
        self._show_checked("pause", state.feed.paused, self._set_pause_icon)
        self._show_checked("record", bool(state.recording_to), self._set_record_icon)
        for name in ("back", "forward"):
            self.actions_[name].setEnabled(state.feed.seekable)
        title = f"{self.tools.source.text()} — {texts.TITLE}"
        if title != self.windowTitle():
            self.setWindowTitle(title)
        self._first_words(state)
        self.run.follow(state)

    def _show_checked(self, name: str, on: bool, then: Callable[[], None]) -> None:
        action = self.actions_[name]
        if action.isChecked() != on:
            action.blockSignals(True)
            action.setChecked(on)
            action.blockSignals(False)
            self.tools.sync(action)
            then()

    def _first_words(self, state: SessionState) -> None:
        """The hint of the first run, for as long as nobody has chosen a source."""
        wanted = state.feed.uri == "sample:" and not self.settings.flag("hint_seen")
        self.banners.show_hint(
            texts.SAMPLE_HINT if wanted else "", lambda: self.settings.set("hint_seen", True)
        )

    # --- what the controls do ----------------------------------------------------------------

    def _pause(self, paused: bool) -> None:
        self.desk.pause(paused)
        self._set_pause_icon()

    def _record(self, on: bool) -> None:
        self.run.record(on)
        self._set_record_icon()

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

    def _choose_theme(self, choice: str) -> None:
        choice = choice if choice in texts.THEMES else "system"
        self.settings.set("theme", choice)
        for action in self._themes.actions():
            action.setChecked(action.data() == choice)
        self.theme.choose(choice)

    # --- Qt's own events ---------------------------------------------------------------------

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
            self.run.show_source(uri)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802
        """The run ends with the window."""
        if self._timer.isActive():
            self._timer.stop()
            self._remember()
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
