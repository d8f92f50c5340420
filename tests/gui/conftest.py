"""Windows in these tests open off screen."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest.importorskip("PyQt5.QtWidgets", reason="PyQt5 is not installed")


@pytest.fixture(scope="session", autouse=True)
def qt_app() -> Iterator[object]:
    """One application for all tests: Qt allows no second one in a process."""
    before = os.environ.get("QT_QPA_PLATFORM")
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from app.gui.qt_env import drop_opencv_plugins

    drop_opencv_plugins()
    from PyQt5.QtWidgets import QApplication

    yield QApplication.instance() or QApplication(["tests"])
    if before is None:
        del os.environ["QT_QPA_PLATFORM"]
    else:
        os.environ["QT_QPA_PLATFORM"] = before
