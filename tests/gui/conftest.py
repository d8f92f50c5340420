"""Windows in these tests open off screen, and remember nothing of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed")


@pytest.fixture(scope="session", autouse=True)
def qt_app() -> Iterator[object]:
    """One application for all tests: Qt allows no second one in a process."""
    before = os.environ.get("QT_QPA_PLATFORM")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from app.gui.window import drop_opencv_plugins

    drop_opencv_plugins()
    from PyQt5.QtWidgets import QApplication

    yield QApplication.instance() or QApplication(["tests"])
    if before is None:
        del os.environ["QT_QPA_PLATFORM"]
    else:
        os.environ["QT_QPA_PLATFORM"] = before


@pytest.fixture
def settings(tmp_path: Path):
    """The window's memory, in a file of the test's own."""
    from app.gui.ports import Settings

    return Settings(tmp_path / "settings.ini")


@pytest.fixture
def open_window(qtbot, settings) -> Iterator[Callable]:
    """``open_window(CONTROLLERS…)``: a real window off screen, closed again at the end."""
    from app.gui.main_window import MainWindow

    opened = []

    def make(*controllers, kept=None):
        window = MainWindow(controllers, kept or settings, ended=lambda: None)
        opened.append(window)
        window.show()
        window.tick()
        window.tick()
        return window

    yield make
    for window in opened:
        window.close()
        window.deleteLater()
