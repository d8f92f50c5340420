"""The Qt application around the window: environment, main loop, signals and messages."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError
from ..ops.display import find_display

if TYPE_CHECKING:
    from .main_window import MainWindow
    from .ports import RunController

log = logging.getLogger(__name__)

TICK_MS = 16


def run_window(
    controllers: Sequence[RunController],
    *,
    interrupted: Callable[[], bool] = lambda: False,
    settings_file: Path | None = None,
    on_display_lost: Callable[[str], None] = lambda text: None,
    language: str = "system",
    opened: Callable[[MainWindow], None] = lambda window: None,
) -> None:
    """Show the window until the user closes it or the run has ended; main thread only.

    ``controllers``: of each source of the run. ``language``: one of ``languages.LANGUAGES``, or
    "system": what the user has chosen before, else his desktop's.
    ``interrupted`` is asked at every tick and closes the window too, as does Ctrl-C where nobody
    else handles it. An exception in here or in a slot is raised again once the window is gone.
    ``settings_file`` takes the place of the user's own. ``on_display_lost``: see heard_qt.
    ``opened`` gets each window when it is shown. Raises ConfigError where no window can be opened.
    """
    prepare_qt()
    from PyQt5.QtCore import Qt, QTimer
    from PyQt5.QtWidgets import QApplication

    from . import texts

    faults: list[BaseException] = []
    struck: list[int] = []

    def on_exception(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        # PyQt5 calls this with what escapes from a slot or an event handler, and aborts the
        # process unless somebody has put a hook of his own here.
        faults.append(error)
        QApplication.quit()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        struck.append(number)

    def look() -> None:
        if struck or interrupted():
            QApplication.quit()

    with heard_qt(on_display_lost):
        app = QApplication.instance()
        if app is None:
            QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
            QApplication.setAttribute(Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
            app = QApplication([texts.TITLE])
        QApplication.setApplicationName("kestrel")
        QApplication.setApplicationDisplayName(texts.TITLE)
        # Ctrl-C as an exception could strike where Python can only ignore it; so it is a note
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if default and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)
        before, sys.excepthook = sys.excepthook, on_exception
        with contextlib.suppress(ImportError):
            # Half a second that nobody notices while the engine is being built, and that would
            # otherwise hold the window up when the plots are opened.
            import pyqtgraph  # noqa: F401
        from .languages import speak
        from .main_window import MainWindow
        from .ports import Settings

        settings, windows = Settings(settings_file), list[MainWindow]()

        def open_window(wanted: str) -> None:
            """A new one in this language, in the place of one that speaks another."""
            for window in windows:
                window.remember()
            speak(wanted)
            window = MainWindow(controllers, settings, QApplication.quit, speak_anew)
            window.show()
            window.activateWindow()
            opened(window)
            while windows:
                windows.pop().leave()
            windows.append(window)

        def speak_anew(wanted: str) -> None:
            # once the menu in which it was chosen has closed
            QTimer.singleShot(0, lambda: open_window(wanted))

        def close_windows() -> None:
            """No name of a window outlives this: it goes before the application."""
            while windows:
                window = windows.pop()
                window.close()  # its clock stops with it
                window.deleteLater()

        watch = QTimer(app)
        watch.timeout.connect(look)
        watch.start(TICK_MS)
        try:
            chosen = settings.text("language", "system")
            open_window(chosen if language == "system" else language)
            if not faults:
                QApplication.exec_()
        finally:
            watch.stop()
            close_windows()
            sys.excepthook = before
            if signal.getsignal(signal.SIGINT) is on_interrupt:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            QApplication.processEvents()
            del watch  # before the application, which may go with this function
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

    severe = (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)

    def hear(kind: Any, context: Any, text: str | None) -> None:
        told = text or ""
        if told.endswith(LAST_WORDS):
            on_display_lost(told)
        log.log(logging.ERROR if kind in severe else logging.DEBUG, "Qt: %s", told)

    before = qInstallMessageHandler(hear)
    try:
        yield
    finally:
        qInstallMessageHandler(before)


def qt_version() -> str:
    """Raises ImportError where PyQt5 is missing or lacks a library."""
    from PyQt5.QtCore import QT_VERSION_STR

    return str(QT_VERSION_STR)


_SET_BY_OPENCV = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")


def drop_opencv_plugins() -> None:
    """Remove the variables by which opencv-python, on import, steers Qt to plugins of its own.

    They are built for another Qt, and PyQt5 aborts with them. What the user has set stays.
    """
    for name in _SET_BY_OPENCV:
        if "cv2" in Path(os.environ.get(name, "")).parts:
            del os.environ[name]


def prepare_qt() -> None:
    """Make sure that a QApplication can be built; ConfigError with the cure, as Qt would abort."""
    drop_opencv_plugins()
    display = find_display()
    if not display.usable:
        raise ConfigError(f"cannot open a window: {display.reason}; use --headless")
    if display.platform is None or sys.platform in ("win32", "darwin"):
        return
    os.environ.setdefault("QT_QPA_PLATFORM", display.platform)
    if display.platform == "xcb":
        _check_xcb_plugin()


def _check_xcb_plugin() -> None:
    """Load Qt's X11 plugin once by hand: what it lacks can be told then, and is fatal later."""
    from PyQt5.QtCore import QLibraryInfo

    folders = os.environ.get("QT_QPA_PLATFORM_PLUGIN_PATH") or str(
        Path(QLibraryInfo.location(QLibraryInfo.PluginsPath), "platforms")
    )
    for plugin in (Path(each, "libqxcb.so") for each in folders.split(os.pathsep)):
        if plugin.is_file():
            try:
                ctypes.CDLL(str(plugin))
            except OSError as error:
                raise ConfigError(
                    f"cannot open a window: Qt's X11 plugin lacks a system library ({error}); on "
                    "Debian and Ubuntu: apt install libxcb-xinerama0 libxcb-icccm4 libxcb-image0 "
                    "libxcb-keysyms1 libxcb-render-util0 libxcb-shape0 libxkbcommon-x11-0 "
                    "libxcb-randr0 libdbus-1-3; or use --headless"
                ) from error
