"""Which commands are there, with which keys, in which menus?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt5.QtGui import QColor, QKeySequence
from PyQt5.QtWidgets import QAction, QActionGroup, QMenuBar, QWidget

from app.gui import texts
from app.gui.icons import icon

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
