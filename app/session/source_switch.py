"""Changes of the source under a running pipeline, and what may be asked of the present one."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.states import LOST
from ..pipeline.pipeline import Pipeline
from ..pipeline.player import Opening, SourcePlayer
from .state import SourceState


class SourceSwitcher:
    """One source of a stream at a time. All methods return at once and may be called from anywhere.

    ``make`` finds a source by its URI, on the source's own thread. ``loops``: whether a recording
    begins again at its end. ``browse``: see SourcePlayer. ``tell`` gets a line for people.
    ``number``: of the stream.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        make: Callable[[str], Opening],
        *,
        tell: Callable[[str], None],
        loops: Callable[[str], bool] = lambda uri: False,
        browse: bool = False,
        number: int = 0,
    ) -> None:
        self._pipeline, self._make, self._tell, self._loops = pipeline, make, tell, loops
        self._browse, self._number = browse, number
        self._lock = threading.Lock()
        self._before: str | None = None  # what ran before, to return to

    @property
    def player(self) -> SourcePlayer | None:
        return self._pipeline.player(self._number)

    @property
    def state(self) -> SourceState:
        player = self.player
        return SourceState() if player is None else player.state

    def show(self, uri: str) -> None:
        """Change to this source. If it cannot be opened at all, the one before comes back."""
        with self._lock:
            player = self.player
            if player is not None and player.has_opened:
                self._before = player.state.uri
            self._play(uri)

    def reopen(self) -> None:
        self._ask(lambda player: self.show(player.state.uri))

    def return_if_failed(self) -> None:
        """Go back to the source before if the present one never opened and will not."""
        with self._lock:
            player, before = self.player, self._before
            if player is None or before is None or player.has_opened:
                return
            state = player.state
            if before != state.uri and state.phase in LOST:
                self._before = None
                self._tell(f"{state.error} — back to the source before")
                self._play(before)

    def pause(self, paused: bool) -> None:
        self._ask(lambda player: player.pause(paused))

    def step(self) -> None:
        self._ask(lambda player: player.step())

    def seek(self, position_ns: int) -> None:
        self._ask(lambda player: player.seek(position_ns))

    def set_speed(self, speed: float) -> None:
        """Play a recording so many times as fast; another source begins at 1."""
        self._ask(lambda player: player.set_speed(speed))

    def set_loop(self, loop: bool) -> None:
        self._ask(lambda player: player.set_loop(loop))

    def show_again(self) -> None:
        """Give the frame that stands, if one does, to the engine once more."""
        self._ask(lambda player: player.show_again())

    def _play(self, uri: str) -> None:
        self._pipeline.swap_source(
            uri,
            lambda: self._make(uri),
            loop=self._loops(uri),
            browse=self._browse,
            number=self._number,
        )

    def _ask(self, command: Callable[[SourcePlayer], None]) -> None:
        player = self.player
        if player is not None:
            command(player)
