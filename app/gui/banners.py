"""Which banners lie over the picture, one below the other?"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QVBoxLayout, QWidget

from app.gui import texts
from app.gui.banner import Banner
from app.gui.messages import Deed, Message, Messages
from app.session_state import Notice, Severity

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
