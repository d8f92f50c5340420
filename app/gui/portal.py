"""Does the desktop want dark colours? Asked of its portal, which also tells when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt5.QtCore import QObject, pyqtSlot
from PyQt5.QtDBus import QDBusConnection, QDBusMessage, QDBusPendingCallWatcher, QDBusPendingReply

_SERVICE = "org.freedesktop.portal.Desktop"
_PATH = "/org/freedesktop/portal/desktop"
_INTERFACE = "org.freedesktop.portal.Settings"
_NAMESPACE, _KEY = "org.freedesktop.appearance", "color-scheme"
_PREFERS_DARK = 1
_TIMEOUT_MS = 2000


class Portal(QObject):
    """Calls ``wants_dark`` with the desktop's answer, if there is one; never waits for it."""

    def __init__(self, wants_dark: Callable[[bool], None]) -> None:
        super().__init__()
        self._wants_dark = wants_dark
        bus = QDBusConnection.sessionBus()
        if not bus.isConnected():
            return
        on_change: Any = self.on_change
        bus.connect(_SERVICE, _PATH, _INTERFACE, "SettingChanged", on_change)
        call = QDBusMessage.createMethodCall(_SERVICE, _PATH, _INTERFACE, "Read")
        call.setArguments([_NAMESPACE, _KEY])
        self._watcher = QDBusPendingCallWatcher(bus.asyncCall(call, _TIMEOUT_MS), self)
        self._watcher.finished.connect(self._answered)

    def _answered(self, watcher: QDBusPendingCallWatcher) -> None:
        reply = QDBusPendingReply(watcher)
        if reply.isValid():
            self._tell(reply.argumentAt(0))

    @pyqtSlot(QDBusMessage)
    def on_change(self, message: QDBusMessage) -> None:
        """The user has changed something."""
        arguments = message.arguments()
        if arguments[:2] == [_NAMESPACE, _KEY]:
            self._tell(arguments[2])

    def _tell(self, value: Any) -> None:
        while hasattr(value, "variant"):  # a variant in a variant
            value = value.variant()
        self._wants_dark(value == _PREFERS_DARK)
