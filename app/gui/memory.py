"""What of the window's own state is kept from one day to the next, and put back?"""

from __future__ import annotations

from collections.abc import Callable

from PyQt5.QtWidgets import QActionGroup, QMainWindow

from app.gui import texts
from app.gui.actions import Actions
from app.gui.settings import Settings

DRAWN = ("boxes", "labels", "scores", "keypoints")
_SWITCHES = (*DRAWN, "hud")
_DOCKS = ("controls", "instruments")


class Memory:
    """Switches, docks, theme, size and place. ``apply_theme`` takes "system", "dark" or "light"."""

    def __init__(
        self,
        window: QMainWindow,
        settings: Settings,
        actions: Actions,
        *,
        themes: QActionGroup,
        apply_theme: Callable[[str], None],
    ) -> None:
        self._window, self._settings, self._actions = window, settings, actions
        self._themes, self._apply_theme = themes, apply_theme

    def restore(self) -> None:
        """As it was left."""
        self._window.restoreGeometry(self._settings.state("geometry"))
        self.choose_theme(self._settings.text("theme"))
        for name in _SWITCHES:
            self._switch(name, self._settings.flag(name))
        for name in _DOCKS:
            self._switch(name, self._settings.flag(f"{name}_open"))

    def remember(self, hidden: frozenset[str]) -> None:
        """For the next time; ``hidden`` are the classes that are not shown."""
        if not self._window.isFullScreen():
            self._settings.set("geometry", self._window.saveGeometry())
        for name in _SWITCHES:
            self._settings.set(name, self._actions[name].isChecked())
        for name in _DOCKS:
            self._settings.set(f"{name}_open", self._actions[name].isChecked())
        self._settings.set("hidden", sorted(hidden))
        self._settings.save()

    def reset(self) -> None:
        """As on the first day."""
        self._settings.reset()
        for name in (*_SWITCHES, "controls"):
            self._switch(name, True)
        self._switch("instruments", False)
        self.choose_theme("system")

    def choose_theme(self, choice: str) -> None:
        """Apply it, and tick it in the menu."""
        choice = choice if choice in texts.THEMES else "system"
        self._settings.set("theme", choice)
        for action in self._themes.actions():
            action.setChecked(action.data() == choice)
        self._apply_theme(choice)

    def _switch(self, name: str, on: bool) -> None:
        """Also what follows the switch, where it stands as wanted already."""
        action = self._actions[name]
        if action.isChecked() == on:
            action.toggled.emit(on)
        action.setChecked(on)
