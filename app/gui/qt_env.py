"""Puts the environment right before a QApplication exists."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ..core.errors import ConfigError
from ..ops.display import find_display

_SET_BY_OPENCV = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR")


def drop_opencv_plugins() -> None:
    """Remove the variables by which opencv-python, on import, steers Qt to plugins of its own.

    They are built for another Qt, and PyQt5 aborts with them. What the user has set stays.
    """
    for name in _SET_BY_OPENCV:
        if "cv2" in Path(os.environ.get(name, "")).parts:
            del os.environ[name]


def qt_version() -> str:
    """Raises ImportError where PyQt5 is missing or lacks a library."""
    from PyQt5.QtCore import QT_VERSION_STR

    return str(QT_VERSION_STR)


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
