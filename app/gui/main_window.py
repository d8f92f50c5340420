"""What does the window consist of, and what does each control do?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

from PyQt5.QtCore import QSize, Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QPalette
from PyQt5.QtWidgets import (
    QApplication,
    QDockWidget,
    QFileDialog,
    QInputDialog,
    QMainWindow,
    QMenu,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from app import __version__
from app.gui import texts
from app.gui.actions import Actions, show_keys
from app.gui.banners import Banners
from app.gui.controls import Controls
from app.gui.geometry import STEP
from app.gui.hud import Hud, figures_of
from app.gui.icons import icon
from app.gui.instruments import Instruments
from app.gui.messages import Deed, hint, messages
from app.gui.overlay import OverlayOptions
from app.gui.ports import Desk
from app.gui.settings import Settings
from app.gui.sources import dropped_source
from app.gui.theme import Theme
from app.gui.timeline import Timeline
from app.gui.toolbar import ToolBar
from app.gui.view import ResultView, with_toggle
from app.session_state import Choice, SessionState

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
        self._filling = False  # the screen
        self._hidden = frozenset(settings.words("hidden"))
        self._model_name = ""
        self._remember_uri = ""
        self.view, self.hud, self.timeline = ResultView(texts.WAITING), Hud(), Timeline()
        self.view.setAccessibleName(texts.VIEW_NAME)
        self.actions_ = Actions(self)
        self.banners = Banners(self.view, self._do)
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
        self.docks = {
            "controls": self._dock(
                texts.CONTROLS, self.controls, Qt.DockWidgetArea.RightDockWidgetArea
            ),
            "instruments": self._dock(
                texts.INSTRUMENTS, self.instruments, Qt.DockWidgetArea.BottomDockWidgetArea
            ),
        }
        self.docks["instruments"].hide()
        bar = self.menuBar()
        assert bar is not None
        self._themes = self.actions_.fill(bar, self._choose_theme)
        self.resize(1200, 760)

    def _dock(self, title: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        dock.setWidget(content)
        dock.setFeatures(_DOCK)
        self.addDockWidget(area, dock)
        return dock

    def _connect(self) -> None:
        acts = self.actions_
        acts.connect(
            {
                "open_file": self.open_file,
                "open_folder": self.open_folder,
                "open_url": self.open_url,
                "snapshot": self.snapshot,
                "record": self.record,
                "folder": self._choose_folder,
                "quit": self.close,
                "pause": self._pause,
                "step": self._step,
                "back": lambda: self._move(-5),
                "forward": lambda: self._move(5),
                "restart": self._restart,
                "fit": self.view.fit,
                "one_to_one": self.view.one_to_one,
                "zoom_in": lambda: self.view.zoom_by(STEP),
                "zoom_out": lambda: self.view.zoom_by(1 / STEP),
                "full_screen": self._full_screen,
                "hud": self._show_hud,
                "controls": self.docks["controls"].setVisible,
                "instruments": self._show_instruments,
                "shortcuts": lambda: show_keys(self),
                "reset": self.ask_reset,
                "about": self._about,
                **{name: self._toggle_drawn(name) for name in _DRAWN},
            }
        )
        for name, dock in self.docks.items():
            toggle = dock.toggleViewAction()
            assert toggle is not None
            toggle.toggled.connect(self._follow_dock(name))
        self.tools.source_chosen.connect(self.show_source)
        self.tools.choice_made.connect(self._choose)
        self.timeline.moved.connect(self.desk.seek)
        self.controls.thresholds.connect(self._set_thresholds)
        self.controls.defaults.connect(self._default_thresholds)
        self.controls.hidden_changed.connect(self._hide)

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
        self.docks["controls"].setVisible(self.settings.flag("controls_open"))
        self._show_hud(self.settings.flag("hud"))
        self._choose_theme(self.settings.text("theme"))
        self.view.set_hidden(self._hidden)
        self.desk.hide(self._hidden)
        if self.settings.flag("instruments_open"):
            self.actions_["instruments"].setChecked(True)
        given = self.desk.given
        model, engine = self.settings.text("model"), self.settings.text("engine")
        if (model or engine) and not given & {"model", "engine"}:
            self.desk.choose(Choice(model or None, engine or "auto"))

    def _remember(self) -> None:
        if not self.isFullScreen():
            self.settings.set("geometry", self.saveGeometry())
        for name in (*_DRAWN, "hud"):
            self.settings.set(name, self.actions_[name].isChecked())
        for name in self.docks:
            self.settings.set(f"{name}_open", self.actions_[name].isChecked())
        self.settings.set("hidden", sorted(self._hidden))
        self.settings.save()

    def ask_reset(self) -> None:
        """Forget everything, if the user means it."""
        yes = QMessageBox.StandardButton.Yes
        if QMessageBox.question(self, texts.TITLE, texts.RESET_ASK) == yes:
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
        self._default_thresholds()
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
        self.timeline.show_feed(state.feed)
        self.tools.show_state(state, self.desk.catalogue())
        self.controls.show_thresholds(state.score, state.iou)
        self.controls.show_classes(state.labels, self._hidden)
        if self.docks["instruments"].isVisible():
            self.instruments.show_result(self.view.newest, self._hidden)
        self._show_checked("pause", state.feed.paused, self._set_pause_icon)
        self._show_checked("record", bool(state.recording_to), self._set_record_icon)
        for name in ("back", "forward"):
            self.actions_[name].setEnabled(state.feed.seekable)
        title = f"{self.tools.source.text()} — {texts.TITLE}"
        if title != self.windowTitle():
            self.setWindowTitle(title)
        self._first_words(state)
        self._model_came(state)
        if self._remember_uri and self._remember_uri == state.feed.uri and state.feed.info:
            self._remember_uri = ""
            if state.feed.label == state.feed.uri:  # nothing in it is secret
                self.settings.add_recent(state.feed.uri)

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

    def _model_came(self, state: SessionState) -> None:
        """A model that comes up gets the thresholds that it had the last time."""
        if state.model_name == self._model_name or state.score is None or state.iou is None:
            return
        self._model_name = state.model_name
        if self.desk.given & {"score", "iou"}:
            return
        score = self.settings.number(f"score/{state.model_name}", state.score)
        iou = self.settings.number(f"iou/{state.model_name}", state.iou)
        if 0.001 <= score <= 1 and 0 <= iou <= 1 and (score, iou) != (state.score, state.iou):
            self.desk.set_thresholds(score, iou)

    # --- what the controls do ----------------------------------------------------------------

    def show_source(self, uri: str) -> None:
        """Change to this source."""
        self._remember_uri = uri
        self.settings.set("hint_seen", True)
        self.desk.show_source(uri)
        self.view.fit()

    def open_file(self) -> None:
        """Ask for a file."""
        self._ask_path(texts.FILE_TITLE, QFileDialog.FileMode.ExistingFile, self.show_source)

    def open_folder(self) -> None:
        """Ask for a folder."""
        self._ask_path(texts.FOLDER_TITLE, QFileDialog.FileMode.Directory, self.show_source)

    def open_url(self) -> None:
        """Ask for an address."""
        dialog = QInputDialog(self)
        dialog.setWindowTitle(texts.URL_TITLE)
        dialog.setLabelText(texts.URL_ASK)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.textValueSelected.connect(
            lambda text: self.show_source(text.strip()) if text.strip() else None
        )
        dialog.open()

    def _ask_path(
        self, title: str, mode: QFileDialog.FileMode, then: Callable[[str], None]
    ) -> None:
        dialog = QFileDialog(self, title, str(Path.home()))
        dialog.setFileMode(mode)
        if mode == QFileDialog.FileMode.ExistingFile:
            dialog.setNameFilters(texts.FILE_FILTER.split(";;"))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(then)
        dialog.open()  # the window goes on meanwhile

    def _choose_folder(self) -> None:
        def then(folder: str) -> None:
            self.settings.set("pictures_folder", folder)
            self.settings.set("videos_folder", folder)

        self._ask_path(texts.SAVE_TITLE, QFileDialog.FileMode.Directory, then)

    def snapshot(self) -> None:
        """Save what is shown now."""
        shown = self.view.newest
        if shown is None:
            self.banners.tell(texts.NOTHING_TO_SAVE, "info")
            return
        result, labels = shown
        visible = result.detections.without(labels, self._hidden)
        stem = self.settings.folder("pictures") / f"kestrel_{_stamp()}"
        self.desk.snapshot(str(stem), (replace(result, detections=visible), labels))

    def record(self, on: bool) -> None:
        """Begin or end a recording."""
        name = f"kestrel_{_stamp()}.mp4"
        self.desk.record(str(self.settings.folder("videos") / name) if on else "")
        self._set_record_icon()

    def _pause(self, paused: bool) -> None:
        self.desk.pause(paused)
        self._set_pause_icon()

    def _step(self) -> None:
        self.desk.step()

    def _move(self, seconds: float) -> None:
        feed = self.desk.state().feed
        if feed.seekable:
            self.desk.seek(max(0, (feed.position_ns or 0) + round(seconds * 1e9)))

    def _restart(self) -> None:
        feed = self.desk.state().feed
        if feed.recording and feed.phase in ("playing", "ended"):
            self.desk.seek(0) if feed.seekable or feed.phase == "ended" else self.desk.reopen()
        else:
            self.desk.reopen()

    def _choose(self, choice: Choice) -> None:
        self.settings.set("model", choice.model or "")
        self.settings.set("engine", choice.engine)
        self.desk.choose(choice)

    def _set_thresholds(self, score: float, iou: float) -> None:
        if self._model_name:
            self.settings.set(f"score/{self._model_name}", score)
            self.settings.set(f"iou/{self._model_name}", iou)
        self.desk.set_thresholds(score, iou)

    def _default_thresholds(self) -> None:
        for name in ("score", "iou"):
            self.settings.forget(f"{name}/{self._model_name}")
        state = self.desk.state()
        if state.default_score is not None and state.default_iou is not None:
            self.desk.set_thresholds(state.default_score, state.default_iou)

    def _hide(self, hidden: frozenset[str]) -> None:
        self._hidden = hidden
        self.view.set_hidden(hidden)
        self.desk.hide(hidden)

    def _toggle_drawn(self, name: str) -> Callable[[bool], None]:
        def toggle(on: bool) -> None:
            self.view.set_options(with_toggle(self.view.options, name, on))

        return toggle

    def _show_hud(self, on: bool) -> None:
        self.hud.setVisible(on)

    def _show_instruments(self, on: bool) -> None:
        if on:
            self.instruments.build()
            self._restyle()
        self.docks["instruments"].setVisible(on)

    def _follow_dock(self, name: str) -> Callable[[bool], None]:
        def follow(visible: bool) -> None:
            if not self._filling and not self.isMinimized():
                self.actions_[name].setChecked(visible)

        return follow

    def _full_screen(self, on: bool) -> None:
        self._filling = True  # the docks go for a while, their switches stay
        bar = self.menuBar()
        assert bar is not None
        for each in (bar, self.tools):
            each.setVisible(not on)
        for name, dock in self.docks.items():
            dock.setVisible(self.actions_[name].isChecked() and not on)
        self.showFullScreen() if on else self.showNormal()
        self._filling = on

    def _choose_theme(self, choice: str) -> None:
        choice = choice if choice in texts.THEMES else "system"
        self.settings.set("theme", choice)
        for action in self._themes.actions():
            action.setChecked(action.data() == choice)
        self.theme.choose(choice)

    def _about(self) -> None:
        box = QMessageBox(self)
        box.setWindowTitle(texts.TITLE)
        box.setText(texts.ABOUT.format(version=__version__))
        box.setModal(False)
        box.show()

    def _do(self, deed: Deed) -> None:
        if deed == "reopen":
            self.desk.reopen()
        elif deed == "cancel":
            self.desk.cancel()
        else:
            state = self.desk.state()
            self.desk.choose(state.running or Choice())

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
                self._move(dx)
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


_DOCK: Any = (
    QDockWidget.DockWidgetFeature.DockWidgetMovable
    | QDockWidget.DockWidgetFeature.DockWidgetClosable
)
_ARROWS: dict[int, tuple[int, int]] = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


def _stamp() -> str:
    return datetime.now().strftime("%Y%m%d_%H%M%S_%f")[:-3]
