"""What does the window need of the run behind it? Protocols only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.catalogue import Catalogue
from app.detections import Result
from app.session_state import Choice, SessionState
from app.stats import PipelineStats


class Desk(Protocol):
    """Everything that a control can ask for. Every method returns at once, whatever is stuck."""

    @property
    def given(self) -> frozenset[str]:
        """What the command line says ("model", "engine", "score", "iou"): it wins at the start."""

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

    def snapshot(self, stem: str, shown: tuple[Result, Sequence[str]]) -> None:
        """Save STEM.png, STEM_boxes.png and STEM.json; a notice says when it is done."""

    def catalogue(self) -> Catalogue:
        """What there is to choose from, as known so far."""

    def refresh(self) -> None:
        """Look again what there is."""


class Seats(Protocol):
    """A run of several sources, as the wall of their pictures sees it; every method is quick."""

    @property
    def names(self) -> Sequence[str]:
        """Of the sources, in order."""

    def take(self, name: str) -> tuple[Result, Sequence[str]] | None:
        """The newest result of a source and its labels, once."""

    def stats(self) -> Sequence[PipelineStats]:
        """Of each source, in order."""
