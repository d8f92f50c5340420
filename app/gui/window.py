"""The Qt application around the window, on the main thread."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from .qt_env import prepare_qt

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QMainWindow

    from .ports import MultiViewController, RunController

log = logging.getLogger(__name__)


TICK_MS = 16


def run_window(
    controller: RunController,
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

    def make(ended: Callable[[], None]) -> QMainWindow:
        from .main_window import MainWindow
        from .ports import Settings

        with contextlib.suppress(ImportError):
            # Half a second that nobody notices while the engine is being built, and that would
            # otherwise hold the window up when the instruments are opened.
            import pyqtgraph  # noqa: F401
        return MainWindow(controller, Settings(settings_file), ended)

    with heard_qt(on_display_lost):
        _run(make, interrupted)


def run_wall(
    controller: MultiViewController,
    *,
    interrupted: Callable[[], bool] = lambda: False,
    on_display_lost: Callable[[str], None] = lambda text: None,
) -> None:
    """As ``run_window``, with a picture for each of several sources."""
    prepare_qt()

    def make(ended: Callable[[], None]) -> QMainWindow:
        from .wall import Wall

        return Wall(controller, ended)

    with heard_qt(on_display_lost):
        _run(make, interrupted)


def _run(
    make: Callable[[Callable[[], None]], QMainWindow], interrupted: Callable[[], bool]
) -> None:
    from PyQt5.QtCore import Qt, QTimer
    from PyQt5.QtWidgets import QApplication

    from . import texts

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


LAST_WORDS = ("Did the X11 server die?", "Did the Wayland compositor die?")  # then Qt calls exit(1)


@contextmanager
def heard_qt(on_display_lost: Callable[[str], None]) -> Iterator[None]:
    """Qt's messages go to the log; the one by which it is about to end the process is told first.

    ``on_display_lost`` is called inside Qt, on the GUI thread. C's ``exit`` would run while our
    threads still compute, and crash: what is to be ended in order must be ended in there.
    """
    from PyQt5.QtCore import QtMsgType, qInstallMessageHandler

    def hear(kind: Any, context: Any, text: str | None) -> None:
        told = text or ""
        if told.endswith(LAST_WORDS):
            on_display_lost(told)
        level = (
            logging.ERROR
            if kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
            else logging.DEBUG
        )
        log.log(level, "Qt: %s", told)

    before = qInstallMessageHandler(hear)
    try:
        yield
    finally:
        qInstallMessageHandler(before)
