"""A window opens beside opencv-python; a display that cannot work is an error with a cure."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.gui import window
from tests.gui.x11 import x_display
from tests.sinks.kit import python

CLASH = """
import os, sys, time
import cv2
if sys.argv[1] == "as OpenCV left it":
    import app.gui.window
    app.gui.window.drop_opencv_plugins = lambda: None
from pathlib import Path
from app.gui.window import run_window
from tests.gui.kit import FakeController
from tests.sinks.kit import result
def platform():
    from PyQt5.QtWidgets import QApplication
    return QApplication.platformName()
seen = set()
end = time.monotonic() + 0.3
class OwnController(FakeController):
    def state(self):
        seen.add(platform())
        self.set(ended=time.monotonic() > end)
        return super().state()
controller = OwnController()
controller.latest.emit(result())
run_window([controller], settings_file=Path(sys.argv[2]))
print("platform", *seen)
"""


def plain_env(**more: str) -> dict[str, str]:
    hidden = ("QT_", "DISPLAY", "WAYLAND_DISPLAY")
    return {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | more


@pytest.fixture(scope="module")
def x_server() -> Iterator[str]:
    """The display of a virtual X server."""
    with x_display("800x600x24") as name:
        yield name


@pytest.fixture
def xcb_plugin() -> None:
    from PyQt5.QtCore import QLibraryInfo

    plugin = Path(QLibraryInfo.location(QLibraryInfo.PluginsPath), "platforms", "libqxcb.so")
    try:
        ctypes.CDLL(str(plugin))
    except OSError as error:
        pytest.skip(f"Qt's X11 plugin cannot be loaded here ({error})")


def test_window_opens_off_screen_after_cv2_was_imported(tmp_path) -> None:
    done = python(CLASH, "cured", str(tmp_path / "ini"), env=plain_env(QT_QPA_PLATFORM="offscreen"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "platform offscreen\n"


def test_window_opens_on_x11_after_cv2_was_imported(x_server, xcb_plugin, tmp_path) -> None:
    done = python(CLASH, "cured", str(tmp_path / "ini"), env=plain_env(DISPLAY=x_server))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "platform xcb\n"


def test_variables_that_opencv_sets_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "/venv/lib/python3.11/site-packages/cv2/qt"
    monkeypatch.setenv("QT_QPA_PLATFORM_PLUGIN_PATH", f"{folder}/plugins")
    monkeypatch.setenv("QT_QPA_FONTDIR", f"{folder}/fonts")
    window.drop_opencv_plugins()
    window.drop_opencv_plugins()
    assert "QT_QPA_PLATFORM_PLUGIN_PATH" not in os.environ and "QT_QPA_FONTDIR" not in os.environ


def test_variables_that_the_user_set_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM_PLUGIN_PATH", "/opt/qt/plugins")
    window.drop_opencv_plugins()
    assert os.environ["QT_QPA_PLATFORM_PLUGIN_PATH"] == "/opt/qt/plugins"


def test_x11_plugin_that_lacks_a_library_is_told_with_the_cure(tmp_path, monkeypatch) -> None:
    (tmp_path / "libqxcb.so").write_bytes(b"no library")
    monkeypatch.setenv("QT_QPA_PLATFORM_PLUGIN_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"lacks a system library .*apt install .*--headless"):
        window._check_xcb_plugin()


def test_parts_outside_gui_import_no_qt() -> None:
    modules = [
        "app.ops.display",
        "app.core.detections",
        "app.sinks.json_lines",
        "app.sinks.adapters",
        "app.sinks.console",
        "app.sinks.console",
        "app.sinks.video",
    ]
    code = f"import {', '.join(modules)}, sys; print([m for m in sys.modules if 'PyQt' in m])"
    assert python(code).stdout == "[]\n"


def test_importing_the_window_imports_no_qt_yet() -> None:
    done = python("import app.gui.window, sys; print(any('PyQt' in m for m in sys.modules))")
    assert re.fullmatch(r"False\s*", done.stdout), done.stderr
