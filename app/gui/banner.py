"""How is a message shown over the picture: what happened, and what can be done?"""

from __future__ import annotations

from collections.abc import Callable

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from app.gui import texts
from app.session_state import Severity

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
