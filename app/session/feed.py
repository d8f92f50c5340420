"""Which source is shown, and which pipelines get its frames?"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from app.frame import Frame, SourceInfo
from app.session.feeder import Feeder, Opening
from app.session.tap import Tap
from app.session_state import FeedState

log = logging.getLogger(__name__)


class Feed:
    """One source at a time, on a thread of its own, and the taps that its frames flow into.

    All methods return at once and may be called from any thread. Frames are numbered through, over
    changes of the source, moves and loops; what a source itself passed over stays a gap.
    """

    def __init__(
        self,
        make: Callable[[str], Opening],
        *,
        tell: Callable[[str], None],
        loops: Callable[[str], bool] = lambda uri: False,
    ) -> None:
        self._make, self._tell, self._loops = make, tell, loops
        self._lock = threading.RLock()
        self._events: Counter[str] = Counter()
        self._feeder: Feeder | None = None
        self._before: str | None = None  # what ran before, to return to
        self._left: list[Feeder] = []
        self._taps: list[Tap] = []
        self._next_index = 0
        self._expected = 0
        self._numbered: Feeder | None = None
        self._infos: deque[tuple[int, SourceInfo]] = deque(maxlen=16)  # from which index on

    def show(self, uri: str) -> None:
        """Change to this source. If it cannot be opened at all, the one before comes back."""
        with self._lock:
            before = self._feeder
            if before is not None:
                before.leave()
                self._left = [each for each in self._left if each.is_alive()] + [before]
                self._before = before.state.uri if before.has_opened else self._before
            self._start(uri, after=before)

    def reopen(self) -> None:
        """Open the same source anew: after its end or fault, or while it is lost."""
        with self._lock:
            if self._feeder is not None:
                self.show(self._feeder.state.uri)

    def _start(self, uri: str, *, after: Feeder | None) -> None:
        feeder = Feeder(
            uri,
            self._make,
            lambda frame, info: self._give(feeder, frame, info),
            is_wanted=lambda: bool(self._taps),
            on_event=self._noticed,
            loop=self._loops(uri),
            after=after,
        )
        self._feeder = feeder
        feeder.start()

    def state(self) -> FeedState:
        """The source at this moment."""
        with self._lock:
            feeder = self._feeder
        return feeder.state if feeder is not None else FeedState()

    def events(self) -> Mapping[str, int]:
        """What happened to the sources, counted: "losses", "reconnects", "stalls", …"""
        with self._lock:
            return dict(self._events)

    def return_if_failed(self) -> None:
        """Go back to the source before if the present one never opened and will not."""
        with self._lock:
            feeder, before = self._feeder, self._before
            if feeder is None or before is None or feeder.has_opened or before == feeder.state.uri:
                return
            if feeder.state.phase not in ("failed", "reconnecting"):
                return
            feeder.leave()
            self._left.append(feeder)
            self._before = None
            self._tell(f"{feeder.state.error} — back to the source before")
            self._start(before, after=feeder)

    def info_of(self, index: int) -> SourceInfo:
        """The source that this frame is from."""
        with self._lock:
            return next(info for first, info in reversed(self._infos) if first <= index)

    def pause(self, paused: bool) -> None:
        """Hold the frames back, or let them flow."""
        self._on_feeder(lambda feeder: feeder.pause(paused))

    def step(self) -> None:
        """Pause, and let one frame through."""

        def step(feeder: Feeder) -> None:
            if not feeder.state.paused:
                feeder.pause(True)
            feeder.step()

        self._on_feeder(step)

    def seek(self, position_ns: int) -> None:
        """Move in a recording."""
        self._on_feeder(lambda feeder: feeder.seek(position_ns))

    def add(self, tap: Tap) -> None:
        """Frames flow into this tap too, once it is turned on and the source is open."""
        with self._lock:
            self._taps.append(tap)
            if self._infos:
                tap.turn_on(self._infos[-1][1])

    def remove(self, tap: Tap) -> None:
        """No more frames for this tap; it ends."""
        with self._lock:
            if tap in self._taps:
                self._taps.remove(tap)
        tap.end()

    def stop(self) -> None:
        """End everything; returns at once."""
        with self._lock:
            if self._feeder is not None:
                self._feeder.leave()
                self._left.append(self._feeder)
            taps, self._taps = self._taps, []
        for tap in taps:
            tap.end()

    def join(self, timeout_s: float) -> bool:
        """After ``stop``: True if every source was closed in time."""
        for feeder in self._left:
            feeder.join(timeout_s)
        return not any(feeder.is_alive() for feeder in self._left)

    def _noticed(self, event: str) -> None:
        with self._lock:
            self._events[event] += 1

    def _on_feeder(self, action: Callable[[Feeder], object]) -> None:
        with self._lock:
            feeder = self._feeder
        if feeder is not None:
            action(feeder)

    def _give(self, feeder: Feeder, frame: Frame, info: SourceInfo) -> None:
        with self._lock:
            if feeder is not self._feeder:
                return  # it was left behind
            if self._numbered is not feeder:
                self._numbered, self._expected = feeder, frame.index
            self._next_index += max(0, frame.index - self._expected)  # the source's own gaps
            self._expected = frame.index + 1
            numbered = replace(frame, index=self._next_index)
            self._next_index += 1
            if not self._infos or self._infos[-1][1] is not info:
                before = self._infos[-1][1].uri if self._infos else info.uri
                if before != info.uri:
                    log.info("source %s", info.uri)
                self._infos.append((numbered.index, info))
            for tap in self._taps:
                if not tap.is_on:
                    tap.turn_on(info)
                tap.put(numbered)
