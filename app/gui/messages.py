"""Messages over the picture, and the banners that show them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..session.state import Choice, Notice, SessionState, Severity, SourceState
from . import texts

STUCK_S = 3.0  # an engine that gives nothing for so long is said to be stuck
OPENING_SHOWN_S = 0.7  # a source that opens quicker needs no banner
BUILD_SHOWN_S = 0.7  # a switch that is quicker needs no banner

Deed = Literal["reopen", "retry_engine", "cancel"]


@dataclass(frozen=True, slots=True)
class Message:
    """One banner; ``deed`` is what its button does."""

    text: str
    severity: Severity
    deed: Deed | None = None
    button: str = ""


@dataclass(frozen=True, slots=True)
class Messages:
    """What the source and the engine have to say, and whether the picture is an old one."""

    source: Message | None = None
    engine: Message | None = None
    dimmed: bool = False


def messages(state: SessionState, *, now_ns: int, result_ns: int) -> Messages:
    """``result_ns`` is when the newest result came; all times are monotonic."""
    source = _of_source(state.source, now_ns)
    if source is None and result_ns and _opens_long(state.source, now_ns):
        # until the first picture the hint in the middle says so
        source = Message(texts.OPENING.format(label=state.source.label), "info")
    engine = _of_engine(state, now_ns)
    dimmed = source is not None or bool(state.failure)
    if source is None and engine is None and _is_stuck(state, now_ns, result_ns):
        engine = Message(_since(texts.STUCK, result_ns, now_ns), "warning")
        dimmed = True
    return Messages(source, engine, dimmed)


def hint(state: SessionState, now_ns: int) -> str:
    """What is said in the middle while there is no picture yet."""
    if state.failure or state.source.error:
        return ""
    if state.running is None and state.building_text:
        seconds = (now_ns - state.building_since_ns) // 1_000_000_000
        return f"{texts.NO_ENGINE} ({seconds} s)\n{state.building_text}"
    if state.source.label and state.source.phase == "opening":
        return texts.OPENING.format(label=state.source.label)
    return texts.WAITING


def _of_source(source: SourceState, now_ns: int) -> Message | None:
    if source.phase == "failed":
        return Message(source.error, "error", "reopen", texts.OPEN_AGAIN)
    if source.phase == "reconnecting":
        form = texts.LOST if source.last_frame_ns else texts.LOST_NEVER
        since_ns = source.last_frame_ns or source.since_ns
        return Message(_since(form, since_ns, now_ns, error=source.error), "error")
    if source.phase == "stalled":
        text = _since(texts.SILENT, source.last_frame_ns, now_ns, label=source.label)
        return Message(text, "warning")
    return None


def _opens_long(source: SourceState, now_ns: int) -> bool:
    return source.phase == "opening" and now_ns - source.since_ns > OPENING_SHOWN_S * 1e9


def _of_engine(state: SessionState, now_ns: int) -> Message | None:
    seconds = (now_ns - state.building_since_ns) // 1_000_000_000
    if state.building is not None:
        if now_ns - state.building_since_ns < BUILD_SHOWN_S * 1e9:
            return None
        if state.running is None:
            text = texts.BUILDING.format(what=_what(state.building), seconds=seconds)
            return Message(_with_detail(text, state), "info")
        text = texts.BUILDING_BESIDE.format(
            what=_what(state.building), seconds=seconds, now=state.model_name
        )
        return Message(_with_detail(text, state), "info", "cancel", texts.CANCEL)
    if state.failure:
        text = texts.FAILURE.format(error=state.failure)
        return Message(text, "error", "retry_engine", texts.TRY_NOW)
    return None


def _is_stuck(state: SessionState, now_ns: int, result_ns: int) -> bool:
    source = state.source
    flows = source.phase == "live" and not source.paused and now_ns - source.last_frame_ns < 1e9
    return flows and bool(result_ns) and now_ns - result_ns > STUCK_S * 1e9


def _what(choice: Choice) -> str:
    return f"{choice.model or texts.DEFAULT_MODEL} ({choice.engine})"


def _with_detail(text: str, state: SessionState) -> str:
    return f"{text}\n{state.building_text}" if state.building_text else text


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
    """One message with at most one thing to do, and, where it may go, a way to dismiss it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._action: Callable[[], None] | None = None
        self._severity: Severity | None = None
        self._label = QLabel()
        self._label.setWordWrap(True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.button = QToolButton()
        self.button.clicked.connect(self._act)
        self.dismiss = QToolButton()
        self.dismiss.setText("✕")
        self.dismiss.setToolTip(texts.DISMISS)
        self.dismiss.setAccessibleName(texts.DISMISS)
        self.dismiss.clicked.connect(self.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 8, 8)
        row.addWidget(self._label)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.dismiss, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    @property
    def text(self) -> str:
        """What it says; "" while it is hidden."""
        return "" if self.isHidden() else self._label.text()

    def tell(
        self,
        text: str,
        severity: Severity,
        *,
        action: tuple[str, Callable[[], None]] | None = None,
        may_go: bool = False,
    ) -> None:
        """Show this; cheap if nothing has changed."""
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
        if text != self._label.text():
            self._label.setText(text)
            self.setAccessibleName(text)
        self._action = action[1] if action else None
        self.button.setVisible(action is not None)
        if action and self.button.text() != action[0]:
            self.button.setText(action[0])
        self.dismiss.setVisible(may_go)
        if self.isHidden():
            self.show()

    def _act(self) -> None:
        if self._action is not None:
            self._action()


INFO_S, ALERT_S = 6.0, 30.0  # a notice leaves by itself after this


class Banners:
    """Source, engine, the latest notice and the hint of the first run."""

    def __init__(self, over: QWidget, do: Callable[[Deed], None]) -> None:
        self._do = do
        self.source, self.engine = Banner(over), Banner(over)
        self.notice, self.hint = Banner(over), Banner(over)
        self._number = 0
        self._until_s = 0.0
        column = QVBoxLayout(over)
        column.setContentsMargins(14, 14, 14, 14)
        column.setSpacing(8)
        for banner in (self.source, self.engine, self.notice):
            column.addWidget(banner)
        column.addStretch(1)
        column.addWidget(self.hint, 0, Qt.AlignmentFlag.AlignBottom)

    def show_messages(self, said: Messages) -> None:
        """What holds now."""
        self._show(self.source, said.source)
        self._show(self.engine, said.engine)

    def show_notice(self, notice: Notice | None) -> None:
        """A new one is shown for a while."""
        if notice is not None and notice.number > self._number:
            self._number = notice.number
            self.tell(notice.text, notice.severity)
        elif self._until_s and monotonic() > self._until_s:
            self._until_s = 0.0
            self.notice.hide()

    def tell(self, text: str, severity: Severity) -> None:
        """Show a notice."""
        self._until_s = monotonic() + (INFO_S if severity == "info" else ALERT_S)
        self.notice.tell(text, severity, may_go=True)

    def forget_notice(self) -> None:
        """The user has gone on to something else."""
        self._until_s = 0.0
        self.notice.hide()

    def show_hint(self, text: str, dismissed: Callable[[], None]) -> None:
        """The hint stays until somebody dismisses it, or "" takes it away."""
        if not text:
            self.hint.hide()
        elif self.hint.isHidden():
            self.hint.tell(text, "info", action=(texts.GOT_IT, dismissed))

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

    def _show(self, banner: Banner, message: Message | None) -> None:
        if message is None:
            banner.hide()
            return
        action = None
        if message.deed is not None:
            deed = message.deed
            action = (message.button, lambda: self._do(deed))
        banner.tell(message.text, message.severity, action=action)
