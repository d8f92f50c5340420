"""Messages over the picture, the banners that show them, and the dialogs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from PyQt5.QtCore import QSize, Qt
from PyQt5.QtWidgets import (
    QApplication,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMessageBox,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..session.state import Notice, SessionState, Severity, SourceState
from . import texts

STUCK_S = 3.0  # an engine that gives nothing for so long is said to be stuck
OPENING_SHOWN_S = 0.7  # a source that opens quicker needs no banner
BUILD_SHOWN_S = 0.7  # a switch that is quicker needs no banner

Deed = Literal["reopen", "sample", "retry_engine", "cancel", "dismiss_hint", "show_in_folder"]


@dataclass(frozen=True, slots=True)
class Message:
    """One banner; ``deed`` is what its button does, ``more`` another deed and its button."""

    text: str
    severity: Severity
    deed: Deed | None = None
    button: str = ""
    more: tuple[Deed, str] | None = None


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages about source and engine, and whether the frame shown is out of date."""

    source: Message | None = None
    engine: Message | None = None
    dimmed: bool = False


def messages(state: SessionState, *, now_ns: int, result_ns: int) -> Messages:
    """The messages for a state; ``result_ns``: time of the newest result, 0 before the first.

    All times are monotonic.
    """
    source, engine = _of_source(state.source, now_ns), _of_engine(state, now_ns)
    if source is None and result_ns and _opens_long(state.source, now_ns):
        # until the first picture the hint in the middle says so
        source = Message(texts.OPENING.format(label=state.source.label), "info")
    dimmed = source is not None or bool(state.failure)
    if source is None and engine is None and _is_stuck(state.source, now_ns, result_ns):
        engine = Message(_since(texts.STUCK, result_ns, now_ns), "warning")
        dimmed = True
    return Messages(source, engine, dimmed)


def hint(state: SessionState, now_ns: int) -> str:
    """The text in the middle of the view before the first frame."""
    if state.failure or state.source.error:
        return ""
    if state.running is None and state.building_text:
        seconds = (now_ns - state.building_since_ns) // 1_000_000_000
        return f"{texts.NO_ENGINE} ({seconds} s)\n{state.building_text}"
    if state.source.label and state.source.phase == "opening":
        return texts.OPENING.format(label=state.source.label)
    return texts.WAITING


def _of_source(source: SourceState, now_ns: int) -> Message | None:
    clip: tuple[Deed, str] = ("sample", texts.PLAY_CLIP)
    if source.phase == "failed":
        return Message(source.error, "error", "reopen", texts.OPEN_AGAIN, clip)
    if source.phase in ("reconnecting", "offline"):
        form = texts.LOST if source.phase == "reconnecting" else texts.OFFLINE
        since_ns = source.last_frame_ns or source.since_ns
        text = _since(form, since_ns, now_ns, error=source.error)
        return Message(text, "error", "reopen", texts.TRY_NOW, clip)
    if source.phase == "stalled":
        text = _since(texts.SILENT, source.last_frame_ns, now_ns, label=source.label)
        return Message(text, "warning")
    return None


def _opens_long(source: SourceState, now_ns: int) -> bool:
    return source.phase == "opening" and now_ns - source.since_ns > OPENING_SHOWN_S * 1e9


def _of_engine(state: SessionState, now_ns: int) -> Message | None:
    building = state.building
    if building is None:
        if not state.failure:
            return None
        text = texts.FAILURE.format(error=state.failure)
        return Message(text, "error", "retry_engine", texts.TRY_NOW)
    if now_ns - state.building_since_ns < BUILD_SHOWN_S * 1e9:
        return None
    first = state.running is None
    text = (texts.BUILDING if first else texts.BUILDING_BESIDE).format(
        what=f"{building.model or texts.DEFAULT_MODEL} ({building.engine})",
        seconds=(now_ns - state.building_since_ns) // 1_000_000_000,
        now=state.model_name,
    )
    if state.building_text:
        text += f"\n{state.building_text}"
    return Message(text, "info") if first else Message(text, "info", "cancel", texts.CANCEL)


def _is_stuck(source: SourceState, now_ns: int, result_ns: int) -> bool:
    flows = source.phase == "live" and not source.paused and now_ns - source.last_frame_ns < 1e9
    return flows and bool(result_ns) and now_ns - result_ns > STUCK_S * 1e9


def _since(form: str, since_ns: int, now_ns: int, **more: str) -> str:
    ago_s = max(0.0, (now_ns - since_ns) / 1e9)
    clock = time.strftime("%H:%M:%S", time.localtime(time.time() - ago_s))
    return form.format(clock=clock, seconds=round(ago_s), **more)


_COLOURS: dict[Severity, tuple[str, str]] = {  # ground, edge
    "info": ("#1d3557", "#4c8fe0"),
    "warning": ("#4a3410", "#e0a030"),
    "error": ("#4d1f22", "#e5595f"),
}


class Banner(QFrame):
    """One message with up to two buttons, whose deeds go to ``do``, and a way to dismiss it."""

    def __init__(self, parent: QWidget, do: Callable[[Deed | None], None]) -> None:
        super().__init__(parent)
        self._deeds: list[Deed | None] = [None, None]
        self._severity: Severity | None = None
        self._label = QLabel()
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.button, self.more = QToolButton(), QToolButton()
        self.button.clicked.connect(lambda: do(self._deeds[0]))
        self.more.clicked.connect(lambda: do(self._deeds[1]))
        self.dismiss = QToolButton()
        self.dismiss.setText("✕")
        self.dismiss.setToolTip(texts.DISMISS)
        self.dismiss.setAccessibleName(texts.DISMISS)
        self.dismiss.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 8, 8)
        row.addWidget(self._label)
        for button in (self.button, self.more, self.dismiss):
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    @property
    def text(self) -> str:
        """What it says; "" while it is hidden."""
        return "" if self.isHidden() else self._label.text()

    def tell(self, message: Message, *, may_go: bool = False) -> None:
        """Show this; cheap if nothing has changed."""
        severity = message.severity
        if severity != self._severity:
            self._severity = severity
            ground, edge = _COLOURS[severity]
            self.setStyleSheet(
                f"Banner {{ background: {ground}; border: 1px solid {edge}; border-radius: 6px; }}"
                "Banner QLabel { color: #f4f4f5; }"
                "Banner QToolButton { color: #f4f4f5; border: 1px solid transparent;"
                " border-radius: 4px; padding: 2px 8px; background: rgba(255, 255, 255, 30); }"
                "Banner QToolButton:hover { background: rgba(255, 255, 255, 60); }"
                f"Banner QToolButton:focus {{ border-color: {edge}; }}"
            )
        if message.text != self._label.text():
            self._label.setText(message.text)
            self.setAccessibleName(message.text)
        offered = (message.deed, message.button), message.more or (None, "")
        for i, (deed, text) in enumerate(offered):
            button = (self.button, self.more)[i]
            self._deeds[i] = deed
            button.setText(text)
            button.setVisible(deed is not None)
        self.dismiss.setVisible(may_go)
        self.show()


INFO_S, ALERT_S = 6.0, 30.0  # a notice leaves by itself after this


class Banners:
    """Source, engine, the latest notice and the hint of the first run.

    ``stretched``: over all of ``over``, as a picture; else they are all that is in it.
    """

    def __init__(
        self, over: QWidget, do: Callable[[Deed | None], None], *, stretched: bool = True
    ) -> None:
        self.source, self.engine = Banner(over, do), Banner(over, do)
        self.notice, self.hint = Banner(over, do), Banner(over, do)
        self._number = 0
        self._until_s = 0.0
        column = QVBoxLayout(over)
        margin = 14 if stretched else 2
        column.setContentsMargins(margin, margin, margin, margin)
        column.setSpacing(8)
        for banner in (self.source, self.engine, self.notice):
            column.addWidget(banner)
        if stretched:
            column.addStretch(1)
        column.addWidget(self.hint, 0, Qt.AlignmentFlag.AlignBottom)

    def show_messages(self, said: Messages) -> None:
        for banner, message in ((self.source, said.source), (self.engine, said.engine)):
            banner.tell(message) if message else banner.hide()

    def show_notice(self, notice: Notice | None) -> None:
        """Show a new notice, and hide one whose time is over."""
        if notice is not None and notice.number > self._number:
            self._number = notice.number
            self.tell(notice.text, notice.severity, in_folder=bool(notice.path))
        elif self._until_s and monotonic() > self._until_s:
            self.forget_notice()

    def tell(self, text: str, severity: Severity, *, in_folder: bool = False) -> None:
        """Show a notice; ``in_folder``: with a button that shows its file."""
        self._until_s = monotonic() + (INFO_S if severity == "info" else ALERT_S)
        deed: Deed | None = "show_in_folder" if in_folder else None
        self.notice.tell(Message(text, severity, deed, texts.SHOW_IN_FOLDER), may_go=True)

    def forget_notice(self) -> None:
        self._until_s = 0.0
        self.notice.hide()

    def show_hint(self, text: str) -> None:
        """The hint stays until somebody dismisses it, or "" takes it away."""
        message = Message(text, "info", "dismiss_hint", texts.GOT_IT)
        self.hint.tell(message) if text else self.hint.hide()

    def dismiss_one(self) -> bool:
        """Take the notice or the hint away; False if there is none."""
        if not self.notice.isHidden():
            self.notice.hide()
            return True
        if not self.hint.isHidden():
            self.hint.button.click()
            self.hint.hide()
            return True
        return False


def ask_path(
    parent: QWidget, title: str, then: Callable[[str], None], *, folder: bool = True
) -> None:
    """Ask for a folder, else for a video or an image, without blocking; ``then`` gets its path."""
    dialog = QFileDialog(parent, title, str(Path.home()))
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(then)
    mode = QFileDialog.FileMode
    dialog.setFileMode(mode.Directory if folder else mode.ExistingFile)
    if not folder:
        dialog.setNameFilters(texts.FILE_FILTER.split(";;"))
    dialog.open()


def ask_url(parent: QWidget, then: Callable[[str], None]) -> None:
    """Ask for the address of a stream without blocking."""

    def chosen(text: str) -> None:
        if text.strip():
            then(text.strip())

    dialog = QInputDialog(parent)
    dialog.setWindowTitle(texts.URL_TITLE)
    dialog.setLabelText(texts.URL_ASK)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.textValueSelected.connect(chosen)
    dialog.open()


def may_end(parent: QWidget, *, outputs: bool, recording: bool) -> bool:
    """Whether the run may end: the user is asked where more than the window would end with it."""
    if not (outputs or recording):
        return True
    text = texts.END_RECORDING if recording else texts.END_OUTPUTS
    yes = QMessageBox.StandardButton.Yes
    return QMessageBox.question(parent, texts.TITLE, text) == yes


def roomy(width: int, height: int) -> QSize:
    screen = QApplication.primaryScreen()
    size = QSize(width, height)
    return size if screen is None else size.boundedTo(screen.availableSize() - QSize(8, 40))


def into_view(window: QWidget) -> None:
    """Move it, and make it smaller, so that it lies on a screen as a whole where it can."""
    place = window.frameGeometry()
    screen = QApplication.screenAt(place.center()) or QApplication.primaryScreen()
    if screen is not None:
        room = screen.availableGeometry()
        window.resize(window.size().boundedTo(room.size()))
        place = window.frameGeometry()
        window.move(
            max(room.left(), min(place.left(), room.right() + 1 - place.width())),
            max(room.top(), min(place.top(), room.bottom() + 1 - place.height())),
        )


def show_text(parent: QWidget, title: str, text: str) -> None:
    box = QMessageBox(parent)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setWindowTitle(title)
    box.setText(text)
    box.setModal(False)
    box.show()
