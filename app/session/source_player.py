"""The source that a window shows: read, paused, moved in and changed under a running pipeline."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import monotonic_ns
from typing import NamedTuple

from ..core.errors import KestrelError, SourceEnded
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Seekable, TellsItsState
from .state import FeedState

log = logging.getLogger(__name__)


READ_S = 0.1  # how soon a command is noticed while no frame comes
HAND_OVER_S = 2.0  # for the source before to be closed; a driver that hangs may take longer


class Opening(NamedTuple):
    """A source that is not open yet, and what is known of it beforehand."""

    source: FrameSource
    label: str  # without credentials
    recording: bool  # it has an end


class Feeder(threading.Thread):
    """Opens, reads and closes one source until it is told to leave, all on this thread.

    ``give`` takes each frame; a recording stands still until ``is_wanted``. ``state`` may be read
    on any thread. A source that outlives its faults says itself how it is (``SourceListener``);
    any other one is over with its first fault. A driver that never returns holds up this thread
    alone: whoever wants another source leaves it behind and starts another, which waits for
    ``after`` a little.
    """

    def __init__(
        self,
        uri: str,
        make: Callable[[str], Opening],
        give: Callable[[Frame, SourceInfo], None],
        *,
        is_wanted: Callable[[], bool] = lambda: True,
        on_event: Callable[[str], None] = lambda event: None,
        after: threading.Thread | None = None,
        loop: bool = False,
    ) -> None:
        super().__init__(name="source", daemon=True)
        self._make, self._give, self._is_wanted = make, give, is_wanted
        self._loop, self._after = loop, after
        self._uri = uri
        self._wake = threading.Condition()
        self._leaving = False
        self._steps = 0
        self._seek_ns: int | None = None
        self.noticed = on_event  # see SourceListener
        self.has_opened = False
        self.state = FeedState(uri=uri, label="", since_ns=monotonic_ns())

    def leave(self) -> None:
        """Close the source and end; returns at once."""
        with self._wake:
            self._leaving = True
            self._wake.notify_all()

    def pause(self, paused: bool) -> None:
        """A recording stands still; of a camera the frames are thrown away."""
        with self._wake:
            self._note(paused=paused)
            self._steps = 0
            self._wake.notify_all()

    def step(self) -> None:
        """While paused, let one more frame through."""
        with self._wake:
            self._steps += 1
            self._wake.notify_all()

    def seek(self, position_ns: int) -> None:
        """Go on from there in a recording; while paused, show the one frame there."""
        with self._wake:
            self._seek_ns = max(0, position_ns)
            self._steps = 1 if self.state.paused else 0
            self._wake.notify_all()

    def state_changed(self, state: str, why: str) -> None:
        """See SourceListener; on this thread."""
        lost = state in ("reconnecting", "failed")
        self._enter(state, error=why if lost else "")

    def run(self) -> None:
        """Until it is told to leave, or the source fails; a recording may begin again."""
        if self._after is not None:
            self._after.join(HAND_OVER_S)  # it may hold the very camera that is wanted
            self._after = None
        while not self._leaving and self.state.phase != "failed":
            self._play()

    def _play(self) -> None:
        """Open and play once. How it ended is in the state."""
        opening: Opening | None = None
        came = False
        try:
            opening = self._make(self._uri)
            self._note(label=opening.label, recording=opening.recording)
            if isinstance(opening.source, TellsItsState):
                opening.source.listen(self)
            info = opening.source.open()
            if self.state.phase != "reconnecting":  # else it is waited for
                self._opened(opening, info)
            while not self._leaving:
                frame = self._next(opening.source)
                if frame is None:
                    continue
                if not came:
                    came = True
                    if self.state.phase != "live":
                        self._enter("live", error="")
                if not opening.recording and info.wh_px != frame.wh_px:
                    info = replace(info, wh_px=frame.wh_px)  # it came back as another one
                    self._opened(opening, info)
                self._note(position_ns=frame.media_ns, last_frame_ns=monotonic_ns())
                if self._lets_through():
                    self._give(frame, info)
        except SourceEnded:
            if came:
                self._at_the_end()
            else:
                self._fault("the recording has no frame")
        except KestrelError as error:
            self._fault(str(error))
        except Exception as error:  # a defect of a source must not take the window with it
            log.debug("source failed", exc_info=True)
            self._fault(f"{type(error).__name__}: {error}")
        finally:
            if opening is not None:
                opening.source.close()

    def _opened(self, opening: Opening, info: SourceInfo) -> None:
        self.has_opened = True
        duration_ns = None
        if opening.recording and info.frame_count and info.fps:
            duration_ns = round(info.frame_count * 1e9 / info.fps)
        source = opening.source
        seekable = duration_ns is not None and isinstance(source, Seekable) and source.can_seek
        self._note(info=info, duration_ns=duration_ns, seekable=seekable)

    def _next(self, source: FrameSource) -> Frame | None:
        """The next frame, once it may be read."""
        with self._wake:
            seek_ns, self._seek_ns = self._seek_ns, None
            stands = self.state.paused and not self._steps and seek_ns is None
            if self.state.recording and (stands or not self._is_wanted()):
                self._seek_ns = seek_ns
                self._wake.wait_for(self._may_go_on, READ_S)
                return None
        if seek_ns is not None and isinstance(source, Seekable) and source.can_seek:
            source.seek(seek_ns)
        return source.read(READ_S)

    def _may_go_on(self) -> bool:
        going = not self.state.paused or bool(self._steps) or self._seek_ns is not None
        return self._leaving or (going and self._is_wanted())

    def _lets_through(self) -> bool:
        with self._wake:
            if not self.state.paused:
                return True
            if not self._steps:
                return False
            self._steps -= 1
            return True

    def _at_the_end(self) -> None:
        """Begin again, or stand still until somebody moves in the recording."""
        if self._loop and not self._leaving:
            return
        self._enter("ended", position_ns=self.state.duration_ns)
        with self._wake:
            self._wake.wait_for(lambda: self._leaving or self._seek_ns is not None)

    def _fault(self, text: str) -> None:
        if not self._leaving:
            log.warning("%s", text)
            self._enter("failed", error=text)

    def _enter(self, phase: str, **more: object) -> None:
        self._note(phase=phase, since_ns=monotonic_ns(), **more)

    def _note(self, **changes: object) -> None:
        with self._wake:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]


class Tap:
    """A ``FrameSource`` for one pipeline: it opens when it is turned on, and ends when told to.

    The newest frame wins. ``turn_on``, ``put`` and ``end`` are called on other threads than the
    pipeline's capture thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._info: SourceInfo | None = None
        self._frame: Frame | None = None
        self._ended = False

    @property
    def is_on(self) -> bool:
        """Whether frames may flow."""
        return self._info is not None and not self._ended

    def turn_on(self, info: SourceInfo) -> None:
        """Let the pipeline open its sinks and begin."""
        with self._changed:
            self._info = info
            self._changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Give it the next frame, in place of one that nobody took."""
        with self._changed:
            self._frame = frame
            self._changed.notify_all()

    def end(self) -> None:
        """No more frames; one that waits is still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def open(self) -> SourceInfo:
        """Wait until it is turned on; SourceEnded if it never is."""
        with self._changed:
            self._changed.wait_for(lambda: self._info is not None or self._ended)
            if self._info is None:
                raise SourceEnded
            return self._info

    def read(self, timeout_s: float) -> Frame | None:
        """See interfaces.FrameSource."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout_s)
            frame, self._frame = self._frame, None
            if frame is None and self._ended:
                raise SourceEnded
            return frame

    def close(self) -> None:
        """What is behind the tap stays open: it belongs to the feed."""


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
