"""How is one source read, paused and moved in, and how is told how it is?"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic_ns
from typing import NamedTuple

from app.errors import KestrelError, SourceEnded
from app.frame import Frame, SourceInfo
from app.interfaces import FrameSource, Seekable, TellsItsState
from app.session_state import FeedState

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
