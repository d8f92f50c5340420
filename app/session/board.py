"""Where does a session write down how it is, for every thread to read?"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from app.session_state import Notice, SessionState, Severity

log = logging.getLogger(__name__)


class Board:
    """The state, replaced as a whole: who reads it never waits, and never sees half a change."""

    def __init__(self, state: SessionState) -> None:
        self._lock = threading.Lock()
        self.state = state

    def note(self, **changes: object) -> None:
        """This holds from now on; any thread."""
        with self._lock:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def tell(self, text: str, severity: Severity = "warning") -> None:
        """Put a notice up; any thread."""
        log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", text)
        with self._lock:
            number = self.state.notice.number + 1 if self.state.notice else 1
            self.state = replace(self.state, notice=Notice(number, severity, text))


class LastWord(logging.Handler):
    """What is logged while something is being built is what is being done."""

    def __init__(self, board: Board) -> None:
        super().__init__(logging.INFO)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        """Note its text."""
        if self._board.state.building is not None:
            self._board.note(building_text=record.getMessage())
