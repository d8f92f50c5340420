"""What does the window remember from one day to the next?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt5.QtCore import QByteArray, QSettings, QStandardPaths

RECENT = 8
_DEFAULTS: dict[str, Any] = {
    "boxes": True,
    "labels": True,
    "scores": True,
    "keypoints": True,
    "hud": True,
    "theme": "system",
    "hint_seen": False,
    "controls_open": True,
    "instruments_open": False,
}


class Settings:
    """QSettings with defaults and types; one INI file of the user's."""

    def __init__(self, file: Path | None = None) -> None:
        ini = QSettings.Format.IniFormat
        if file is not None:
            self._store = QSettings(str(file), ini)
        else:
            self._store = QSettings(ini, QSettings.Scope.UserScope, "kestrel", "kestrel")

    def flag(self, name: str) -> bool:
        """A switch."""
        return bool(self._store.value(name, _DEFAULTS[name], type=bool))

    def text(self, name: str, default: str = "") -> str:
        """A word."""
        return str(self._store.value(name, _DEFAULTS.get(name, default), type=str))

    def number(self, name: str, default: float) -> float:
        """A number; the default if what is written is none."""
        try:
            return float(self._store.value(name, default))
        except (TypeError, ValueError):
            return default

    def words(self, name: str) -> list[str]:
        """A list."""
        value = self._store.value(name, [])
        if isinstance(value, str):  # QSettings writes a list of one as a word
            return [value] if value else []
        return [str(each) for each in value or []]

    def state(self, name: str) -> QByteArray:
        """A window's geometry, in Qt's own form."""
        value = self._store.value(name, QByteArray())
        return value if isinstance(value, QByteArray) else QByteArray()

    def set(self, name: str, value: Any) -> None:
        """Remember."""
        self._store.setValue(name, value)

    def add_recent(self, uri: str) -> None:
        """Put a source at the top of the recent ones. No password is written down."""
        if "@" in uri and "://" in uri:
            return
        recent = [uri, *(each for each in self.words("recent") if each != uri)]
        self.set("recent", recent[:RECENT])

    def forget(self, name: str) -> None:
        """Back to the default."""
        self._store.remove(name)

    def reset(self) -> None:
        """Forget everything."""
        self._store.clear()
        self._store.sync()

    def save(self) -> None:
        """Write it out."""
        self._store.sync()

    def folder(self, kind: str) -> Path:
        """Where "pictures" or "videos" are saved."""
        chosen = self.text(f"{kind}_folder")
        if chosen:
            return Path(chosen)
        places = {
            "pictures": QStandardPaths.StandardLocation.PicturesLocation,
            "videos": QStandardPaths.StandardLocation.MoviesLocation,
        }
        place = QStandardPaths.writableLocation(places[kind]) or str(Path.home())
        return Path(place, "Kestrel")
