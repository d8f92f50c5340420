"""Passes what the user asks for to the run, and remembers the choices that take effect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QUrl
from PyQt5.QtGui import QDesktopServices

from ..core.errors import ConfigError
from ..session.state import Choice, SessionState
from . import texts
from .controls import SPEEDS, FilterBox, pictures_of
from .messages import Banners, Deed
from .ports import SAMPLE, RunController, Settings
from .view import ResultView
from .wall import Wall


class RunControls:
    """Turns the user's requests into calls of the controllers; GUI thread only, no call blocks.

    They are about the selected source, but for what says otherwise.
    """

    def __init__(self, wall: Wall, settings: Settings) -> None:
        self._wall, self._settings = wall, settings
        self.hidden: frozenset[str] = frozenset()  # of this model
        self._model_name = ""
        self._new_uri = ""  # remembered once it has opened
        self._new_choice: Choice | None = None
        model, engine = settings.text("model"), settings.text("engine")
        if (model or engine) and not self._controller.given & {"model", "engine"}:
            self._controller.choose(Choice(model or None, engine or "auto"))

    @property
    def _controller(self) -> RunController:
        return self._wall.tile.controller

    @property
    def _view(self) -> ResultView:
        return self._wall.tile.view

    def follow(self, state: SessionState) -> None:
        """Apply a new model's remembered thresholds; remember choices that took effect."""
        self._model_came(state)
        if self._new_choice is not None and self._new_choice == state.running:
            self._settings.set("model", self._new_choice.model or "")
            self._settings.set("engine", self._new_choice.engine)
            self._new_choice = None
        source = state.source
        if self._new_uri and self._new_uri == source.uri and source.info:
            self._new_uri = ""
            if source.label == source.uri:  # nothing in it is secret
                self._settings.add_recent(source.uri)

    def show_source(self, uri: str) -> None:
        self._new_uri = uri
        self._settings.set("hint_seen", True)
        self._controller.show_source(uri)
        self._view.look(None)

    def snapshot(self, banners: Banners) -> None:
        """Save the current frame and its visible detections."""
        shown = self._view.newest
        if shown is None:
            banners.tell(texts.NOTHING_TO_SAVE, "info")
            return
        result, labels = shown
        visible = replace(result, detections=result.detections.without(labels, self.hidden))
        model = self._controller.state().model_name
        name = re.sub(r"[^\w.-]+", "_", model)
        stem = self._settings.folder("pictures") / f"kestrel_{self._stamp()}_{name}"
        self._controller.snapshot(str(stem), (visible, labels), model)

    def record(self, on: bool) -> None:
        path = self._settings.folder("videos") / f"kestrel_{self._stamp()}.mp4"
        self._controller.record(str(path) if on else "")

    def save_to(self, folder: str) -> None:
        self._settings.set("pictures_folder", folder)
        self._settings.set("videos_folder", folder)

    def pause(self, on: bool) -> None:
        ended = self._controller.state().source.phase == "ended"
        self._controller.pause(on and not ended)
        if ended:
            self.restart()

    def pause_all(self) -> None:
        """Pause all sources; if they are, let all go on."""
        controllers = [tile.controller for tile in self._wall.tiles]
        on = not all(each.state().source.paused for each in controllers)
        for each in controllers:
            each.pause(on)

    def change_speed(self, by: int) -> None:
        """Play a recording faster or slower, by so many of SPEEDS."""
        source = self._controller.state().source
        if source.paceable:
            nearest = min(SPEEDS, key=lambda speed: abs(speed - source.speed))
            at = SPEEDS.index(nearest) + by
            self._controller.set_speed(SPEEDS[min(max(at, 0), len(SPEEDS) - 1)])

    def step_back(self) -> None:
        """Pause, and show the frame before in a recording."""
        source, shown = self._controller.state().source, self._view.newest
        at_ns = None if shown is None else shown[0].frame.media_ns
        if source.seekable and at_ns is not None:
            self._controller.pause(True)
            fps = source.info.fps if source.info is not None else None
            # whatever is between two frames is the earlier one
            self._controller.seek(max(0, at_ns - round(0.6e9 / (fps or 30))))

    def move(self, seconds: float) -> None:
        """Skip back or forward in a recording; among pictures so many of them."""
        source = self._controller.state().source
        if source.seekable:
            pictures = pictures_of(source)
            unit_s = 1 / pictures.fps if pictures is not None and pictures.fps else 1.0
            to_ns = (source.position_ns or 0) + round(seconds * unit_s * 1e9)
            self._controller.seek(max(0, min(to_ns, source.duration_ns or to_ns)))

    def restart(self) -> None:
        """Play a recording from its start; reopen any other source."""
        source = self._controller.state().source
        plays = source.recording and source.phase in ("live", "ended")
        if plays and (source.seekable or source.phase == "ended"):
            self._controller.seek(0)
        else:
            self._controller.reopen()

    def choose(self, choice: Choice) -> None:
        self._new_choice = choice
        self._controller.choose(choice)

    def set_thresholds(self, score: float, iou: float) -> None:
        """Set the thresholds, and remember them for this model."""
        if self._model_name:
            self._settings.set(f"score/{self._model_name}", score)
            self._settings.set(f"iou/{self._model_name}", iou)
        self._controller.set_thresholds(score, iou)

    def default_thresholds(self) -> None:
        """Go back to the model's own thresholds."""
        for name in ("score", "iou"):
            self._settings.forget(f"{name}/{self._model_name}")
        state = self._controller.state()
        if state.default_score is not None and state.default_iou is not None:
            self._controller.set_thresholds(state.default_score, state.default_iou)

    def hide(self, hidden: frozenset[str]) -> None:
        """Leave these classes out of what the window draws, records and saves."""
        if self._model_name:
            self._settings.set(f"hidden/{self._model_name}", sorted(hidden))
        self._hide(hidden)

    def _hide(self, hidden: frozenset[str]) -> None:
        self.hidden = hidden
        for tile in self._wall.tiles:
            tile.view.set_hidden(hidden)
            tile.controller.hide(hidden)

    def filter(self, box: FilterBox, table: Mapping[str, Any]) -> None:
        """Report by these filters from the next frame on, or say why not."""
        try:
            self._controller.filters.write(table, self._controller.name)
        except ConfigError as fault:
            box.show_fault(str(fault))
        else:
            box.show_fault("")
            box.show_table(self._controller.filters.read(self._controller.name))

    def do(self, deed: Deed | None) -> None:
        """Carry out what a banner's button offers."""
        if deed == "reopen":
            self._controller.reopen()
        elif deed == "sample":
            self.show_source(SAMPLE)
        elif deed == "show_in_folder":
            notice = self._controller.state().notice
            folder = Path(notice.path).parent if notice else Path.home()
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
        elif deed == "cancel":
            self._controller.cancel()
        elif deed == "dismiss_hint":
            self._settings.set("hint_seen", True)
        elif deed == "retry_engine":
            self._controller.choose(self._controller.state().running or Choice())

    def _model_came(self, state: SessionState) -> None:
        """Give a newly loaded model the thresholds and hidden classes of the last time."""
        if state.model_name == self._model_name or state.score is None or state.iou is None:
            return
        self._model_name = state.model_name
        self._hide(frozenset(self._settings.words(f"hidden/{state.model_name}")))
        if self._controller.given & {"score", "iou"}:
            return
        score = self._settings.number(f"score/{state.model_name}", state.score)
        iou = self._settings.number(f"iou/{state.model_name}", state.iou)
        if 0.001 <= score <= 1 and 0 <= iou <= 1 and (score, iou) != (state.score, state.iou):
            self._controller.set_thresholds(score, iou)

    def _stamp(self) -> str:
        source = re.sub(r"[^\w.-]+", "_", self._controller.name)
        stamp = datetime.now().strftime("%Y%m%d_%H%M%S_%f")[:-3]
        return f"{stamp}_{source}" if source else stamp
