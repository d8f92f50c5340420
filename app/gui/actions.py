"""The window's actions with their keys, menus and icons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QIcon, QKeySequence, QPainter, QPen, QPixmap, QPolygonF
from PyQt5.QtWidgets import QAction, QActionGroup, QMenuBar, QWidget

from . import texts

SIDE = 20  # the drawings' own unit
RED = QColor(232, 72, 72)
Draw = Callable[[QPainter, QColor], None]


def icon(name: str, colour: QColor) -> QIcon:
    """The icon in this colour, sharp up to twofold density."""
    drawn = QIcon()
    for opacity, mode in ((1.0, QIcon.Mode.Normal), (0.35, QIcon.Mode.Disabled)):
        for density in (1, 2):
            pixmap = QPixmap(SIDE * density, SIDE * density)
            pixmap.fill(Qt.GlobalColor.transparent)
            painter = QPainter(pixmap)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setOpacity(opacity)
            painter.scale(density, density)
            painter.setPen(QPen(colour, 1.6, cap=Qt.PenCapStyle.RoundCap))
            _DRAWINGS[name](painter, colour)
            painter.end()
            pixmap.setDevicePixelRatio(density)
            drawn.addPixmap(pixmap, mode)
    return drawn


def _pause(painter: QPainter, colour: QColor) -> None:
    painter.fillRect(QRectF(5, 4, 3.4, 12), colour)
    painter.fillRect(QRectF(11.6, 4, 3.4, 12), colour)


def _triangle(painter: QPainter, colour: QColor, left: float) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    painter.drawPolygon(QPolygonF([QPointF(left, 4), QPointF(left + 10, 10), QPointF(left, 16)]))


def _play(painter: QPainter, colour: QColor) -> None:
    _triangle(painter, colour, 6)


def _step(painter: QPainter, colour: QColor) -> None:
    _triangle(painter, colour, 3.5)
    painter.fillRect(QRectF(14, 4, 2.6, 12), colour)


def _snapshot(painter: QPainter, colour: QColor) -> None:
    painter.drawRoundedRect(QRectF(2.5, 5.5, 15, 10.5), 2, 2)
    painter.drawLine(QPointF(7, 5.5), QPointF(8.3, 3.5))
    painter.drawLine(QPointF(8.3, 3.5), QPointF(11.7, 3.5))
    painter.drawLine(QPointF(11.7, 3.5), QPointF(13, 5.5))
    painter.drawEllipse(QPointF(10, 10.7), 2.9, 2.9)


def _record(painter: QPainter, colour: QColor) -> None:
    painter.drawEllipse(QPointF(10, 10), 7, 7)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(RED)
    painter.drawEllipse(QPointF(10, 10), 4, 4)


def _recording(painter: QPainter, colour: QColor) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(RED)
    painter.drawRoundedRect(QRectF(4.5, 4.5, 11, 11), 2, 2)


def _controls(painter: QPainter, colour: QColor) -> None:
    for y, x in ((5, 13), (10, 7), (15, 11)):
        painter.drawLine(QPointF(3, y), QPointF(17, y))
        painter.setBrush(colour)
        painter.drawEllipse(QPointF(x, y), 2, 2)


def _instruments(painter: QPainter, colour: QColor) -> None:
    painter.drawLine(QPointF(3, 3.5), QPointF(3, 16.5))
    painter.drawLine(QPointF(3, 16.5), QPointF(17, 16.5))
    points = [(5.5, 12.5), (8.5, 8.5), (11.5, 11), (16, 5)]
    painter.drawPolyline(QPolygonF([QPointF(*each) for each in points]))


def _full_screen(painter: QPainter, colour: QColor) -> None:
    for x, dx in ((3.5, 4), (16.5, -4)):
        for y, dy in ((3.5, 4), (16.5, -4)):
            painter.drawLine(QPointF(x, y), QPointF(x + dx, y))
            painter.drawLine(QPointF(x, y), QPointF(x, y + dy))


def _fit(painter: QPainter, colour: QColor) -> None:
    painter.drawRect(QRectF(2.5, 4.5, 15, 11))
    painter.drawRect(QRectF(6, 7.5, 8, 5))


def _more(painter: QPainter, colour: QColor) -> None:
    for x in (4, 10):
        painter.drawPolyline(QPolygonF([QPointF(x, 4), QPointF(x + 6, 10), QPointF(x, 16)]))


_DRAWINGS: dict[str, Draw] = {
    "pause": _pause,
    "play": _play,
    "step": _step,
    "snapshot": _snapshot,
    "record": _record,
    "recording": _recording,
    "controls": _controls,
    "instruments": _instruments,
    "full_screen": _full_screen,
    "fit": _fit,
    "more": _more,
}


CHECKABLE = {
    *("record", "pause", "full_screen", "boxes", "labels", "scores", "keypoints", "hud"),
    *("controls", "instruments"),
}
_DRAWN = ("snapshot", "full_screen", "fit", "controls", "instruments", "step")
_TWO_FACED = {"pause": ("pause", "play"), "record": ("record", "recording")}  # off, on
_MENUS: tuple[tuple[str, str], ...] = (
    (texts.MENU_FILE, "open_file open_folder open_url | snapshot record folder | quit"),
    (texts.MENU_PLAY, "pause step | back forward restart"),
    (
        texts.MENU_VIEW,
        "fit one_to_one zoom_in zoom_out full_screen | boxes labels scores keypoints hud | "
        "controls instruments",
    ),
    (texts.MENU_HELP, "shortcuts reset about"),
)


class Actions:
    """All of them by name, as Qt's actions, which menus, toolbar and keys share."""

    def __init__(self, parent: QWidget) -> None:
        self._all: dict[str, QAction] = {}
        for name, (text, keys, tip) in texts.ACTIONS.items():
            action = QAction(text, parent)
            action.setShortcuts([QKeySequence(key) for key in keys])
            shown = f"  ({keys[0]})" if keys else ""
            action.setToolTip(tip + shown)
            action.setStatusTip(tip)
            action.setCheckable(name in CHECKABLE)
            action.setObjectName(name)
            parent.addAction(action)  # its keys work without the menu bar too, in full screen
            self._all[name] = action
        self._ink = QColor("gray")
        for name in _TWO_FACED:
            self[name].toggled.connect(lambda on, name=name: self.show_face(name))

    def __getitem__(self, name: str) -> QAction:
        return self._all[name]

    def connect(self, handlers: dict[str, Callable[..., Any]]) -> None:
        """Give each its deed; checkable ones get whether they are checked."""
        for name, handler in handlers.items():
            if name in CHECKABLE:
                self[name].toggled.connect(handler)
            else:
                self[name].triggered.connect(lambda checked, do=handler: do())

    def restyle(self, ink: QColor) -> None:
        """Draw the icons in this colour."""
        self._ink = ink
        for name in _DRAWN:
            self[name].setIcon(icon(name, ink))
        for name in _TWO_FACED:
            self.show_face(name)

    def show_face(self, name: str) -> None:
        """The icon of what a click would do, or does."""
        action = self[name]
        action.setIcon(icon(_TWO_FACED[name][action.isChecked()], self._ink))

    def fill(self, bar: QMenuBar, choose_theme: Callable[[str], None]) -> QActionGroup:
        """The menu bar; returns the group of the themes."""
        themes = QActionGroup(bar)
        for title, names in _MENUS:
            menu = bar.addMenu(title)
            assert menu is not None
            menu.setToolTipsVisible(True)
            for name in names.split():
                if name == "|":
                    menu.addSeparator()
                else:
                    menu.addAction(self[name])
            if title == texts.MENU_VIEW:
                theme_menu = menu.addMenu(texts.MENU_THEME)
                assert theme_menu is not None
                for choice, text in texts.THEMES.items():
                    action = QAction(text, bar)
                    action.setCheckable(True)
                    action.setData(choice)
                    action.triggered.connect(lambda checked, choice=choice: choose_theme(choice))
                    themes.addAction(action)
                    theme_menu.addAction(action)
        return themes


def keys_text() -> str:
    """All keys, as HTML."""
    rows = [
        (", ".join(keys[:2]), text.replace("&", "").replace("…", ""), tip)
        for text, keys, tip in texts.ACTIONS.values()
        if keys
    ]
    cells = "".join(
        f"<tr><td><b>{_escaped(keys)}</b>&nbsp;&nbsp;</td><td>{_escaped(tip)}</td></tr>"
        for keys, _, tip in [*rows, *((keys, "", tip) for keys, tip in texts.KEYS_VIEW)]
    )
    return f"<table cellspacing=2>{cells}</table>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
