"""Dark or light colours, as the user or the desktop wants them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QObject, pyqtSlot
from PyQt5.QtGui import QColor, QPalette
from PyQt5.QtWidgets import QApplication

_COLOURS = {  # role: dark, light
    QPalette.ColorRole.Window: ("#1f2023", "#f4f4f6"),
    QPalette.ColorRole.WindowText: ("#e6e6e8", "#1d1d20"),
    QPalette.ColorRole.Base: ("#2b2c31", "#ffffff"),
    QPalette.ColorRole.AlternateBase: ("#313238", "#f7f7f9"),
    QPalette.ColorRole.Text: ("#e6e6e8", "#1d1d20"),
    QPalette.ColorRole.Button: ("#34353b", "#e9e9ec"),
    QPalette.ColorRole.ButtonText: ("#e6e6e8", "#1d1d20"),
    QPalette.ColorRole.ToolTipBase: ("#303136", "#fffff5"),
    QPalette.ColorRole.ToolTipText: ("#f2f2f3", "#1d1d20"),
    QPalette.ColorRole.BrightText: ("#ff6b6b", "#c92a2a"),
    QPalette.ColorRole.Link: ("#5aa9ff", "#1864c9"),
    QPalette.ColorRole.Highlight: ("#2f7de1", "#2f7de1"),
    QPalette.ColorRole.HighlightedText: ("#ffffff", "#ffffff"),
    QPalette.ColorRole.PlaceholderText: ("#8b8d94", "#77787f"),
    QPalette.ColorRole.Mid: ("#3a3b40", "#c9cad0"),
    QPalette.ColorRole.Dark: ("#151618", "#a9aab0"),
    QPalette.ColorRole.Shadow: ("#0b0b0c", "#77787f"),
}
TICK = Path(__file__).with_name("tick.png").as_posix()  # with a tick@2x.png beside it
_STYLED = "kestrel_styled"  # property of the application: the style is chosen once
_FADED = (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText)


def palette(*, dark: bool) -> QPalette:
    made = QPalette()
    for role, (in_dark, in_light) in _COLOURS.items():
        made.setColor(role, QColor(in_dark if dark else in_light))
    for role in _FADED:
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor("#77787f" if dark else "#9fa0a6"))
    return made


class Theme:
    """Applies a theme, and follows the desktop's while the choice is "system".

    Until the desktop answers, and where it does not, the platform's own colours and GTK_THEME
    decide.
    """

    def __init__(self, app: QApplication, changed: Callable[[], None]) -> None:
        self._app, self._changed = app, changed
        self._system_dark = _looks_dark(app.palette())
        self._choice = "system"
        self.is_dark = self._system_dark
        if app.property(_STYLED) is None:
            app.setStyle("Fusion")
            app.setProperty(_STYLED, True)
        self._portal = follow_desktop(self.system_wants)

    def choose(self, choice: str) -> None:
        self._choice = choice
        self._apply()

    def system_wants(self, dark: bool) -> None:
        self._system_dark = dark
        self._apply()

    def _apply(self) -> None:
        self.is_dark = self._system_dark if self._choice == "system" else self._choice == "dark"
        # Both make Qt style every widget of the process anew, which is slow, and has crashed in Qt
        # where widgets of a window before were still waiting to be deleted.
        sheet = _sheet(dark=self.is_dark)
        if self._app.styleSheet() != sheet:
            self._app.setPalette(palette(dark=self.is_dark))
            self._app.setStyleSheet(sheet)
        self._changed()


def _looks_dark(colours: QPalette) -> bool:
    if "dark" in os.environ.get("GTK_THEME", "").lower():
        return True
    return colours.color(QPalette.ColorRole.Window).lightness() < 128


_SERVICE, _PATH = "org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop"
_INTERFACE = "org.freedesktop.portal.Settings"
_SETTING = ["org.freedesktop.appearance", "color-scheme"]
_PREFERS_DARK = 1
_TIMEOUT_MS = 2000


def follow_desktop(wants_dark: Callable[[bool], None]) -> QObject | None:
    """Ask the desktop's portal for its colours, now and at every change, without waiting for it.

    ``wants_dark`` gets the answers while the returned object lives. None where there is no bus,
    or PyQt5 comes without D-Bus, as on systems that package it in parts.
    """
    try:
        from PyQt5 import QtDBus
    except ImportError:
        return None

    def tell(value: Any) -> None:
        while hasattr(value, "variant"):  # a variant in a variant
            value = value.variant()
        wants_dark(value == _PREFERS_DARK)

    def answered(watcher: QtDBus.QDBusPendingCallWatcher) -> None:
        reply = QtDBus.QDBusPendingReply(watcher)
        if reply.isValid():
            tell(reply.argumentAt(0))

    class Portal(QObject):
        @pyqtSlot(QtDBus.QDBusMessage)
        def on_change(self, message: QtDBus.QDBusMessage) -> None:
            arguments = message.arguments()
            if arguments[:2] == _SETTING:
                tell(arguments[2])

    bus = QtDBus.QDBusConnection.sessionBus()
    if not bus.isConnected():
        return None
    portal = Portal()
    on_change: Any = portal.on_change
    bus.connect(_SERVICE, _PATH, _INTERFACE, "SettingChanged", on_change)
    call = QtDBus.QDBusMessage.createMethodCall(_SERVICE, _PATH, _INTERFACE, "Read")
    call.setArguments(_SETTING)
    watcher = QtDBus.QDBusPendingCallWatcher(bus.asyncCall(call, _TIMEOUT_MS), portal)
    watcher.finished.connect(answered)
    return portal


def _sheet(*, dark: bool) -> str:
    """Style sheet for what a palette cannot express: borders, padding, visible focus."""
    line = "#34353a" if dark else "#d5d6da"
    hover = "#37383d" if dark else "#dddee2"
    edge = "#8b8d94" if dark else "#77787f"
    on = "#2a3f5f" if dark else "#cfe0f7"
    return f"""
    QToolBar {{ border: 0; border-bottom: 1px solid {line}; padding: 4px 8px; spacing: 4px; }}
    QToolBar QLabel {{ padding: 0 2px 0 8px; }}
    QToolBar QToolButton {{ border: 1px solid transparent; border-radius: 5px; padding: 4px 6px; }}
    QToolBar QToolButton:hover {{ background: {hover}; }}
    QToolBar QToolButton:checked {{ background: {on}; }}
    QToolBar QToolButton#qt_toolbar_ext_button {{ padding: 0; border: 0; }}
    QToolBar QToolButton:focus {{ border-color: palette(highlight); }}
    QToolBar QToolButton#source {{ background: palette(button); border-color: {line};
        padding: 4px 24px 4px 10px; min-width: 130px; text-align: left; }}
    QToolBar QToolButton#source::menu-indicator {{ subcontrol-position: right center;
        subcontrol-origin: padding; right: 8px; }}
    QDockWidget::title {{ padding: 6px 10px; background: palette(window);
        border-bottom: 1px solid {line}; }}
    QDockWidget::close-button {{ subcontrol-origin: margin; subcontrol-position: top right;
        right: 10px; top: 6px; width: 16px; height: 16px; }}
    QMainWindow::separator {{ background: {line}; width: 1px; height: 1px; }}
    QMenuBar {{ padding: 2px 4px; }}
    QCheckBox::indicator, QListView::indicator {{ width: 11px; height: 11px; border-radius: 3px;
        border: 1px solid {edge}; background: palette(base); }}
    QCheckBox::indicator:checked, QListView::indicator:checked {{ border-color: palette(highlight);
        background: #2f7de1; image: url({TICK}); }}
    QToolButton#fold {{ border: 0; font-weight: 600; padding: 2px 0; }}
    QToolButton#fold:focus {{ color: palette(highlight); }}
    QGroupBox {{ border: 0; margin-top: 20px; font-weight: 600; }}
    QGroupBox::title {{ subcontrol-origin: margin; left: 0; }}
    QToolTip {{ padding: 4px; border: 1px solid {line}; }}
    """
