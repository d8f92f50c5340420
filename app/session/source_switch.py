"""Changes of the source under a running pipeline, and what may be asked of the present one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.states import LOST
from ..pipeline.pipeline import Pipeline
from ..pipeline.player import Opening, SourcePlayer
from .state import SourceState


class SourceSwitcher:
    """One source at a time. All methods return at once and may be called from any thread.

    ``make`` finds a source by its URI, on the source's own thread. ``loops``: whether a recording
    begins again at its end. ``tell`` gets a line for people.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        make: Callable[[str], Opening],
        *,
        tell: Callable[[str], None],
        loops: Callable[[str], bool] = lambda uri: False,
    ) -> None:
        self._pipeline, self._make, self._tell, self._loops = pipeline, make, tell, loops
        self._lock = threading.Lock()
        self._before: str | None = None  # what ran before, to return to

    @property
    def state(self) -> SourceState:
        """The source at this moment."""
        player = self._pipeline.source
        return SourceState() if player is None else player.state

    def show(self, uri: str) -> None:
        """Change to this source. If it cannot be opened at all, the one before comes back."""
        with self._lock:
            player = self._pipeline.source
            if player is not None and player.has_opened:
                self._before = player.state.uri
            self._play(uri)

    def reopen(self) -> None:
        """Open the same source anew: after its end or fault, or while it is lost."""
        if self._pipeline.source is not None:
            self.show(self._pipeline.source.state.uri)

    def return_if_failed(self) -> None:
        """Go back to the source before if the present one never opened and will not."""
        with self._lock:
            player, before = self._pipeline.source, self._before
            if player is None or before is None or player.has_opened:
                return
            state = player.state
            if before != state.uri and state.phase in LOST:
                self._before = None
                self._tell(f"{state.error} — back to the source before")
                self._play(before)

    def pause(self, paused: bool) -> None:
        """Hold the frames back, or let them flow."""
        self._ask(lambda player: player.pause(paused))

    def step(self) -> None:
        """Pause, and let one frame through."""
        self._ask(lambda player: player.step())

    def seek(self, position_ns: int) -> None:
        """Move in a recording."""
        self._ask(lambda player: player.seek(position_ns))

    def show_again(self) -> None:
        """Give the frame that stands, if one does, to the engine once more."""
        self._ask(lambda player: player.show_again())

    def _play(self, uri: str) -> None:
        self._pipeline.swap_source(uri, lambda: self._make(uri), loop=self._loops(uri))

    def _ask(self, command: Callable[[SourcePlayer], None]) -> None:
        if self._pipeline.source is not None:
            command(self._pipeline.source)
