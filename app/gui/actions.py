"""The window's actions with their keys, menus and icons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QColor, QIcon, QKeySequence, QPainter, QPen, QPixmap, QPolygonF
from PyQt5.QtWidgets import QAction, QActionGroup, QMenu, QMenuBar, QWidget

from . import texts
from .languages import LANGUAGES

SIDE = 20  # the drawings' own unit
RED = QColor(232, 72, 72)

# shapes: line X Y …, area X Y … (filled), box X Y W H R, ring and disc (filled) X Y R, red ones
_DRAWINGS = {
    "pause": "area 5 4 8.4 4 8.4 16 5 16, area 11.6 4 15 4 15 16 11.6 16",
    "play": "area 6 4 16 10 6 16",
    "step": "area 3.5 4 13.5 10 3.5 16, area 14 4 16.6 4 16.6 16 14 16",
    "snapshot": "box 2.5 5.5 15 10.5 2, line 7 5.5 8.3 3.5 11.7 3.5 13 5.5, ring 10 10.7 2.9",
    "record": "ring 10 10 7, red-disc 10 10 4",
    "recording": "red-box 4.5 4.5 11 11 2",
    "controls": (
        "line 3 5 17 5, disc 13 5 2, line 3 10 17 10, disc 7 10 2, line 3 15 17 15, disc 11 15 2"
    ),
    "zones": "line 3 7 9 3 17 8 14 16 5 15 3 7, disc 3 7 1.6, disc 17 8 1.6, disc 14 16 1.6",
    "instruments": "line 3 3.5 3 16.5 17 16.5, line 5.5 12.5 8.5 8.5 11.5 11 16 5",
    "full_screen": (
        "line 7.5 3.5 3.5 3.5 3.5 7.5, line 12.5 3.5 16.5 3.5 16.5 7.5, "
        "line 7.5 16.5 3.5 16.5 3.5 12.5, line 12.5 16.5 16.5 16.5 16.5 12.5"
    ),
    "fit": "box 2.5 4.5 15 11 0, box 6 7.5 8 5 0",
    "more": "line 4 4 10 10 4 16, line 10 4 16 10 10 16",
}


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
            for shape in _DRAWINGS[name].split(", "):
                kind, *numbers = shape.split()
                _draw(painter, colour, kind=kind, numbers=[float(each) for each in numbers])
            painter.end()
            pixmap.setDevicePixelRatio(density)
            drawn.addPixmap(pixmap, mode)
    return drawn


def _draw(painter: QPainter, colour: QColor, *, kind: str, numbers: list[float]) -> None:
    red, _, kind = kind.rpartition("-")
    outlined = not red and kind != "area"
    filled = red or kind in ("area", "disc")
    pen = QPen(colour, 1.6, cap=Qt.PenCapStyle.RoundCap)
    painter.setPen(pen if outlined else QPen(Qt.PenStyle.NoPen))
    painter.setBrush((RED if red else colour) if filled else QColor(Qt.GlobalColor.transparent))
    if kind in ("line", "area"):
        points = QPolygonF(
            [QPointF(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        )
        painter.drawPolyline(points) if kind == "line" else painter.drawPolygon(points)
    elif kind == "box":
        x, y, width, height, radius = numbers
        painter.drawRoundedRect(QRectF(x, y, width, height), radius, radius)
    else:
        x, y, radius = numbers
        painter.drawEllipse(QPointF(x, y), radius, radius)


DRAWN = ("boxes", "labels", "scores", "keypoints")
SEVERAL = ("pause_all", "grid", "next", "previous")  # of no use with a single source
CHECKABLE = {
    "record",
    "pause",
    "loop",
    "full_screen",
    "hud",
    "controls",
    "zones",
    "instruments",
    *DRAWN,
}
_TWO_FACED = {"pause": ("pause", "play"), "record": ("record", "recording")}  # off, on
_BY_USER = {*_TWO_FACED, "loop"}
_MENUS: tuple[tuple[str, str], ...] = (  # name of the title in texts, actions
    ("MENU_FILE", "open_file open_folder open_url | snapshot record folder | quit"),
    (
        "MENU_PLAY",
        "pause pause_all | step step_back back forward restart | slower faster loop",
    ),
    (
        "MENU_VIEW",
        "fit one_to_one zoom_in zoom_out full_screen | boxes labels scores keypoints hud | "
        "controls zones instruments",
    ),
    ("MENU_HELP", "shortcuts reset about"),
)


class Actions:
    """All actions by name; menus, toolbar and keys share them."""

    def __init__(self, parent: QWidget) -> None:
        self._all: dict[str, QAction] = {}
        for name, (text, keys, tip) in texts.ACTIONS.items():
            action = QAction(text, parent)
            action.setShortcuts([QKeySequence(key) for key in keys])
            shown = f"  ({keys[0]})" if keys else ""
            action.setToolTip(tip + shown)
            action.setCheckable(name in CHECKABLE)
            action.setObjectName(name)
            parent.addAction(action)  # its keys work without the menu bar too, in full screen
            self._all[name] = action
        self._ink = QColor("gray")
        for name in _TWO_FACED:
            self[name].toggled.connect(lambda on, name=name: self._show_icon(name))

    def __getitem__(self, name: str) -> QAction:
        return self._all[name]

    def show_several(self, names: Sequence[str], show: Callable[[int], None]) -> QMenu | None:
        """A menu of several sources, of which ``show`` gets the number; None for a single one."""
        for name in SEVERAL:
            self[name].setVisible(len(names) > 1)
        if len(names) < 2:
            return None
        menu = QMenu(texts.MENU_SOURCES)
        menu.addActions([self["grid"], self["next"], self["previous"]])
        menu.addSeparator()
        for number, name in enumerate(names):
            action = menu.addAction(name.replace("&", "&&"), partial(show, number))
            if action is not None and number < 9:
                action.setShortcut(QKeySequence(f"Alt+{number + 1}"))
        return menu

    def connect(self, handlers: dict[str, Callable[..., Any]]) -> None:
        """Connect each with its handler; those of checkable ones get whether they are checked.

        Those of _BY_USER report what the user does, not what the run sets them to.
        """
        for name, handler in handlers.items():
            if name in _BY_USER:
                self[name].triggered.connect(handler)
            elif name in CHECKABLE:
                self[name].toggled.connect(handler)
            else:
                self[name].triggered.connect(lambda checked, do=handler: do())

    def restyle(self, ink: QColor) -> None:
        self._ink = ink
        for name in self._all:
            self._show_icon(name)

    def _show_icon(self, name: str) -> None:
        action = self[name]
        face = _TWO_FACED.get(name, (name, name))[action.isChecked()]
        if face in _DRAWINGS:
            action.setIcon(icon(face, self._ink))

    def fill(
        self, bar: QMenuBar, choose_theme: Callable[[str], None], speak: Callable[[str], None]
    ) -> tuple[QActionGroup, QActionGroup]:
        """Fill the menu bar; returns the groups of the themes' and the languages' actions."""
        themes, languages = QActionGroup(bar), QActionGroup(bar)
        themes.triggered.connect(lambda action: choose_theme(action.data()))
        languages.triggered.connect(lambda action: speak(action.data()))
        for title, names in _MENUS:
            menu = bar.addMenu(getattr(texts, title))
            assert menu is not None
            menu.setToolTipsVisible(True)
            for name in names.split():
                if name == "|":
                    menu.addSeparator()
                else:
                    menu.addAction(self[name])
            if title == "MENU_VIEW":
                spoken = {"system": texts.SYSTEM_LANGUAGE, **LANGUAGES}
                _add_choices(menu, texts.MENU_THEME, themes, texts.THEMES)
                _add_choices(menu, texts.MENU_LANGUAGE, languages, spoken)
        return themes, languages


def _add_choices(menu: QMenu, title: str, group: QActionGroup, choices: Mapping[str, str]) -> None:
    """A menu of these choices, of which one is ticked."""
    made = menu.addMenu(title)
    assert made is not None
    for choice, text in choices.items():
        action = QAction(text, group)
        action.setCheckable(True)
        action.setData(choice)
    made.addActions(group.actions())


def keys_text() -> str:
    """All keys, as HTML."""
    rows = [(", ".join(keys[:2]), tip) for _, keys, tip in texts.ACTIONS.values() if keys]
    cells = "".join(
        f"<tr><td><b>{escape(keys)}</b>&nbsp;&nbsp;</td><td>{escape(tip)}</td></tr>"
        for keys, tip in (*rows, *texts.KEYS_VIEW)
    )
    return f"<table cellspacing=2>{cells}</table>"
