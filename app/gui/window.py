"""How does a run look at a desk? One window that shows the newest result, on the main thread."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from types import FrameType, TracebackType
from typing import Protocol

from app.detections import Result
from app.gui.qt_env import prepare_qt

TICK_MS = 16  # about a screen's own rate
HUD_S = 0.25  # slow enough to be read
SCREEN_SHARE = 0.8


class Mailbox(Protocol):
    """What a window pulls from: ``app.sinks.latest.LatestSink``."""

    def take(self) -> Result | None:
        """The newest result, once."""


def run_window(
    latest: Mailbox,
    *,
    labels: Sequence[str],
    title: str,
    hud: Callable[[], str],
    is_running: Callable[[], bool],
    request_stop: Callable[[], None],
    hint: str = "",
) -> None:
    """Show results until the user closes the window or ``is_running`` says no; main thread only.

    Esc, Q, the window's close button and Ctrl-C call ``request_stop``; F11 is full screen. ``hud``
    gives the status line, ``hint`` is shown until the first result. An exception in here or in a
    callback stops the run too, and is raised again once the window is gone. Raises ConfigError
    where no window can be opened.
    """
    prepare_qt()
    from PyQt5.QtCore import Qt, QTimer
    from PyQt5.QtGui import QCloseEvent, QKeyEvent
    from PyQt5.QtWidgets import QApplication

    from app.gui.view import ResultView

    interrupted: list[int] = []

    class Window(ResultView):
        """The view as a top-level window with its own clock."""

        def __init__(self) -> None:
            super().__init__(labels, hint)
            self.setWindowTitle(title)
            self.resize(960, 540)
            self._sized = False
            self._next_hud_s = 0.0
            self._timer = QTimer(self)
            self._timer.setTimerType(Qt.TimerType.PreciseTimer)
            # Besides painting, it gives Python a turn: that is when signals are handled.
            self._timer.timeout.connect(self.tick)
            self._timer.start(TICK_MS)

        def tick(self) -> None:
            """Fetch what is new; close once the run has ended."""
            # asked first, so that a last result is not missed
            running = is_running() and not interrupted
            result = latest.take()
            if result is not None:
                if not self._sized:
                    self._fit_to(result)
                self.set_result(result)
            now_s = monotonic()
            if now_s >= self._next_hud_s or not running:
                self._next_hud_s = now_s + HUD_S
                self.set_hud(hud())
            if not running:
                self.repaint()
                self.close()

        def _fit_to(self, result: Result) -> None:
            self._sized = True
            screen = self.screen()
            if screen is None or self.isFullScreen() or self.isMaximized():
                return
            room = screen.availableGeometry().size() * SCREEN_SHARE
            width, height = result.frame.wh_px
            scale = min(1.0, room.width() / width, room.height() / height)
            self.resize(round(width * scale), round(height * scale) + self.hud_height)

        def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
            if event is None:
                return
            if event.key() in (Qt.Key.Key_Escape, Qt.Key.Key_Q):
                self.close()
            elif event.key() == Qt.Key.Key_F11:
                self.showNormal() if self.isFullScreen() else self.showFullScreen()
            else:
                super().keyPressEvent(event)

        def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
            self._timer.stop()
            QApplication.quit()
            super().closeEvent(event)

    faults: list[BaseException] = []

    def on_exception(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # PyQt5 calls this with what escapes from a slot or an event handler, and aborts the
        # process unless somebody has put a hook of his own here.
        faults.append(error)
        QApplication.quit()

    app = QApplication.instance()
    if app is None:
        QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
        app = QApplication([title])

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.append(number)

    # Ctrl-C as an exception could strike where Python can only ignore it; so it is a note
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_interrupt)
    before, sys.excepthook = sys.excepthook, on_exception
    window = Window()
    try:
        window.show()
        if not faults:
            QApplication.exec_()
    finally:
        request_stop()
        window.close()  # its clock stops with it
        sys.excepthook = before
        if signal.getsignal(signal.SIGINT) is on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        del window  # before the application, which may go with this function
    for fault in faults:
        if not isinstance(fault, KeyboardInterrupt):
            raise fault
