"""How does a run look at a desk? The application around the window, on the main thread."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from app.gui.ports import Desk, Seats
from app.gui.qt_env import prepare_qt

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QMainWindow

TICK_MS = 16


def run_window(
    desk: Desk,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    settings_file: Path | None = None,
    on_display_lost: Callable[[str], None] = lambda text: None,
) -> None:
    """Show the window until the user closes it or the run has ended; main thread only.

    ``interrupted`` is asked at every tick and closes the window too, as does Ctrl-C where nobody
    else handles it. An exception in here or in a slot is raised again once the window is gone.
    ``settings_file`` takes the place of the user's own. ``on_display_lost``: see heard_qt. Raises
    ConfigError where no window can be opened.
    """
    prepare_qt()
    from app.gui.qt_messages import heard_qt

    def make(ended: Callable[[], None]) -> QMainWindow:
        from app.gui.main_window import MainWindow
        from app.gui.settings import Settings

        with contextlib.suppress(ImportError):
            # Half a second that nobody notices while the engine is being built, and that would
            # otherwise hold the window up when the instruments are opened.
            import pyqtgraph  # noqa: F401
        return MainWindow(desk, Settings(settings_file), ended)

    with heard_qt(on_display_lost):
        _run(make, interrupted)


def run_wall(
    seats: Seats,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    on_display_lost: Callable[[str], None] = lambda text: None,
) -> None:
    """As ``run_window``, with a picture for each of several sources."""
    prepare_qt()
    from app.gui.qt_messages import heard_qt

    def make(ended: Callable[[], None]) -> QMainWindow:
        from app.gui.wall import Wall

        return Wall(seats, ended)

    with heard_qt(on_display_lost):
        _run(make, interrupted)


def _run(
    make: Callable[[Callable[[], None]], QMainWindow], interrupted: Callable[[], bool]
) -> None:
    from PyQt5.QtCore import Qt, QTimer
    from PyQt5.QtWidgets import QApplication

    from app.gui import texts

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
        QApplication.setAttribute(Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
        app = QApplication([texts.TITLE])
    QApplication.setApplicationName("kestrel")
    QApplication.setApplicationDisplayName(texts.TITLE)

    struck: list[int] = []

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        struck.append(number)

    # Ctrl-C as an exception could strike where Python can only ignore it; so it is a note
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_interrupt)
    before, sys.excepthook = sys.excepthook, on_exception
    window = make(QApplication.quit)
    watch = QTimer(window)

    def look() -> None:
        if struck or interrupted():
            QApplication.quit()

    watch.timeout.connect(look)
    watch.start(TICK_MS)
    try:
        window.show()
        window.activateWindow()
        if not faults:
            QApplication.exec_()
    finally:
        watch.stop()
        window.close()  # its clock stops with it
        sys.excepthook = before
        if signal.getsignal(signal.SIGINT) is on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        window.deleteLater()
        QApplication.processEvents()
        del window, watch  # before the application, which may go with this function
    for fault in faults:
        raise fault
