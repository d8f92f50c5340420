"""The window follows the dark or light preference of a desktop, and shows on small screens."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from PyQt5.QtGui import QColor, QPalette
from PyQt5.QtWidgets import QApplication, QCheckBox

from app.gui.messages import roomy
from app.gui.theme import Theme
from tests.sinks.kit import ROOT

pytest.importorskip("PyQt5.QtDBus", reason="this PyQt5 comes without D-Bus")

DESKTOP = """
import sys
from PyQt5.QtCore import Q_CLASSINFO, QCoreApplication, QObject, QTimer, pyqtSlot
from PyQt5.QtDBus import QDBusAbstractAdaptor, QDBusConnection, QDBusVariant, QDBusMessage
from app.gui import theme

app = QCoreApplication([])

class Settings(QDBusAbstractAdaptor):
    Q_CLASSINFO("D-Bus Interface", "org.freedesktop.portal.Settings")

    @pyqtSlot(str, str, result=QDBusVariant)
    def Read(self, namespace, key):
        assert (namespace, key) == ("org.freedesktop.appearance", "color-scheme")
        return QDBusVariant(1)

served = QDBusConnection.connectToBus(QDBusConnection.SessionBus, "desktop")
owner = QObject()
adaptor = Settings(owner)
assert served.registerObject("/org/freedesktop/portal/desktop", owner)
assert served.registerService("org.freedesktop.portal.Desktop")

heard = []
def hear(dark):
    heard.append(dark)
    print(dark, flush=True)
    if len(heard) == 1:
        signal = QDBusMessage.createSignal("/org/freedesktop/portal/desktop",
            "org.freedesktop.portal.Settings", "SettingChanged")
        signal.setArguments(["org.freedesktop.appearance", "color-scheme", QDBusVariant(2)])
        served.send(signal)
    else:
        app.quit()

asked = theme.follow_desktop(hear)
QTimer.singleShot(8000, app.quit)
app.exec_()
"""


def test_desktops_wish_and_its_change_are_heard() -> None:
    program = shutil.which("dbus-run-session")
    if program is None:
        pytest.skip("no dbus-run-session here (apt install dbus)")
    done = subprocess.run(
        [program, "--", sys.executable, "-c", DESKTOP],
        cwd=ROOT,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_no_bus_is_no_fault(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.gui.theme import follow_desktop

    heard: list[bool] = []
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
    assert follow_desktop(heard.append) is None
    assert heard == []


def test_pyqt5_without_dbus_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.gui.theme import follow_desktop

    monkeypatch.setitem(sys.modules, "PyQt5.QtDBus", None)
    monkeypatch.delattr("PyQt5.QtDBus", raising=False)
    assert follow_desktop(lambda dark: None) is None


@pytest.mark.parametrize("choice", ["dark", "light"])
def test_a_check_box_that_is_not_ticked_shows_on_its_ground(qtbot, choice: str) -> None:
    app = QApplication.instance()
    Theme(app, lambda: None).choose(choice)
    box = QCheckBox()
    qtbot.addWidget(box)
    box.resize(24, 24)
    shades = []
    for ticked in (False, True):
        box.setChecked(ticked)
        image = box.grab().toImage()
        places = [(x, y) for x in range(image.width()) for y in range(image.height())]
        shades.append([QColor(image.pixel(x, y)) for x, y in places])
    ground = box.palette().color(QPalette.ColorRole.Window).lightness()
    assert max(abs(each.lightness() - ground) for each in shades[0]) > 60
    assert [each.rgb() for each in shades[0]] != [each.rgb() for each in shades[1]]


def test_a_first_window_is_no_larger_than_the_screen(qtbot) -> None:
    room = QApplication.primaryScreen().availableSize()
    size = roomy(20_000, 20_000)
    assert size.width() <= room.width() and size.height() <= room.height()
    assert (roomy(100, 80).width(), roomy(100, 80).height()) == (100, 80)
