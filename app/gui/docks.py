"""What lies beside the picture, and when is it seen?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QDockWidget, QFrame, QMainWindow, QScrollArea, QWidget

from app.gui import texts
from app.gui.actions import Actions

BAR_PX = 14  # a scroll bar's width, always left free, so that nothing jumps
_FEATURES: Any = (
    QDockWidget.DockWidgetFeature.DockWidgetMovable
    | QDockWidget.DockWidgetFeature.DockWidgetClosable
)


class Docks:
    """Controls to the right, instruments below. Each follows its switch, and the switch its cross.

    ``put_away`` hides them for a while, in full screen, and leaves the switches as they are.
    """

    def __init__(
        self, window: QMainWindow, actions: Actions, *, controls: QWidget, instruments: QWidget
    ) -> None:
        self._window, self._actions, self._away = window, actions, False
        right, below = (
            Qt.DockWidgetArea.RightDockWidgetArea,
            Qt.DockWidgetArea.BottomDockWidgetArea,
        )
        self._docks = {
            "controls": self._add(texts.CONTROLS, _scrolling(controls), right),
            "instruments": self._add(texts.INSTRUMENTS, instruments, below),
        }
        for name, dock in self._docks.items():
            dock.hide()
            toggle = dock.toggleViewAction()
            assert toggle is not None
            toggle.toggled.connect(self._follow(name))
            actions[name].toggled.connect(dock.setVisible)

    def __getitem__(self, name: str) -> QDockWidget:
        return self._docks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._docks)

    def put_away(self, away: bool) -> None:
        """Hide all of them, or show those that are switched on."""
        self._away = True
        for name, dock in self._docks.items():
            dock.setVisible(self._actions[name].isChecked() and not away)
        self._away = away

    def _add(self, title: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self._window)
        dock.setObjectName(title)
        dock.setWidget(content)
        dock.setFeatures(_FEATURES)
        self._window.addDockWidget(area, dock)
        return dock

    def _follow(self, name: str) -> Callable[[bool], None]:
        def follow(visible: bool) -> None:
            if not self._away and not self._window.isMinimized():
                self._actions[name].setChecked(visible)

        return follow


def _scrolling(content: QWidget) -> QScrollArea:
    """In a small window what has no room is scrolled to."""
    area = QScrollArea()
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidgetResizable(True)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its content is what one tabs to
    area.setWidget(content)
    area.setMinimumWidth(content.minimumSizeHint().width() + BAR_PX)
    return area
