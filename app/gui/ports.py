"""What the window needs of the run behind it, and the settings it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PyQt5.QtCore import QByteArray, QSettings, QStandardPaths

from ..core.detections import Result
from ..core.interfaces import LiveFilters, LiveShapes
from ..session.state import Catalogue, Choice, SessionState

SAMPLE = "sample:"  # the bundled clip


class RunController(Protocol):
    """A source of a run, and everything that a control can ask for.

    What concerns the engine or the whole run is the same for all sources. Every method returns at
    once, whatever is stuck.
    """

    @property
    def name(self) -> str:
        """Of the source among several; "" for the only one."""

    @property
    def given(self) -> frozenset[str]:
        """What the command line says ("model", "engine", "score", "iou"): it wins at the start."""

    @property
    def has_outputs(self) -> bool:
        """Whether something is written or sent that would end with the window."""

    def state(self) -> SessionState:
        """How things are."""

    def take(self) -> tuple[Result, Sequence[str]] | None:
        """The newest result and its model's labels, once."""

    def show_source(self, uri: str) -> None:
        """Change to this source."""

    def reopen(self) -> None:
        """Open the present source anew."""

    def pause(self, paused: bool) -> None:
        """Hold the frames back, or let them flow."""

    def step(self) -> None:
        """Pause, and let one frame through."""

    def seek(self, position_ns: int) -> None:
        """Move in a recording."""

    def set_speed(self, speed: float) -> None:
        """Play a recording so many times as fast."""

    def set_loop(self, loop: bool) -> None:
        """Whether a recording begins again at its end."""

    def choose(self, choice: Choice) -> None:
        """Change model and engine; the running one goes on until the new one is up."""

    def cancel(self) -> None:
        """Give up a switch that is under way."""

    def set_thresholds(self, score: float, iou: float) -> None:
        """Lowest score reported and overlap allowed, 0..1."""

    def hide(self, labels: frozenset[str]) -> None:
        """Leave these classes out of what the window records."""

    def record(self, path: str) -> None:
        """Record what the window shows there; "" stops."""

    def snapshot(self, stem: str, shown: tuple[Result, Sequence[str]], model: str) -> None:
        """Save STEM.png, STEM_boxes.png and STEM.json with the model's name; a notice tells."""

    @property
    def shapes(self) -> LiveShapes:
        """Zones and lines, which may be changed."""

    @property
    def filters(self) -> LiveFilters:
        """Which detections are reported, which may be changed."""

    def save_shapes(self, path: str) -> None:
        """Save them there, "" where the configuration is; a notice says when it is done."""

    def catalogue(self) -> Catalogue:
        """What there is to choose from, as known so far."""

    def refresh(self) -> None:
        """Look again what there is."""


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
        return bool(self._store.value(name, _DEFAULTS[name], type=bool))

    def text(self, name: str, default: str = "") -> str:
        return str(self._store.value(name, _DEFAULTS.get(name, default), type=str))

    def number(self, name: str, default: float) -> float:
        """A number; the default if what is written is none."""
        try:
            return float(self._store.value(name, default))
        except (TypeError, ValueError):
            return default

    def words(self, name: str) -> list[str]:
        value = self._store.value(name, [])
        if isinstance(value, str):  # QSettings writes a list of one as a word
            return [value] if value else []
        return [str(each) for each in value or []]

    def state(self, name: str) -> QByteArray:
        value = self._store.value(name, QByteArray())
        return value if isinstance(value, QByteArray) else QByteArray()

    def set(self, name: str, value: Any) -> None:
        self._store.setValue(name, value)

    def add_recent(self, uri: str) -> None:
        """Put a source at the top of the recent ones. No password is written down."""
        if "@" in uri and "://" in uri:
            return
        recent = [uri, *(each for each in self.words("recent") if each != uri)]
        self.set("recent", recent[:RECENT])

    def forget(self, name: str) -> None:
        self._store.remove(name)

    def reset(self) -> None:
        self._store.clear()
        self._store.sync()

    def save(self) -> None:
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
