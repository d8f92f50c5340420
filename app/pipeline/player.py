"""A source that is played: paused, stepped, moved in, begun again, and waited for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic_ns
from typing import NamedTuple

from ..core.errors import KestrelError, SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Paceable, Seekable
from ..core.states import LOST, State, goes_on
from .capture import READ_S, SourceStream, SourceWorker

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often a recording that stands at its end looks up unasked
SLIDE_S = 3.0  # for which a picture of a folder is shown at the speed 1
HAND_OVER_S = 2.0  # for the source before to be closed; a driver that hangs may take longer


@dataclass(frozen=True, slots=True)
class SourceState:
    """The source. Times ``*_ns`` are monotonic but for ``position_ns`` and ``duration_ns``."""

    uri: str = ""  # as given: it may hold credentials and is never shown
    label: str = ""  # the same with credentials masked
    phase: State = "opening"  # "ended": a recording stands at its end
    since_ns: int = 0  # when the phase began
    info: SourceInfo | None = None
    recording: bool = False
    seekable: bool = False
    position_ns: int | None = None  # in the recording
    duration_ns: int | None = None
    paused: bool = False
    paceable: bool = False
    speed: float = 1.0
    loop: bool = False  # a recording begins again at its end
    error: str = ""  # why it is lost or has failed
    last_frame_ns: int = 0


class Opening(NamedTuple):
    """A source that is not open yet, and what is known of it beforehand."""

    source: FrameSource
    label: str  # without credentials
    recording: bool  # it has an end


class SourcePlayer(SourceWorker):
    """A source that somebody commands; its end or fault is a state, and not the stream's end.

    A recording stands still until ``is_wanted``; of a camera the frames are thrown away until then.
    ``state`` may be read, and commands given, on any thread. A source that outlives its faults says
    itself how it is (``SourceListener``); any other one is over with its first fault. A driver that
    never returns holds up this thread alone: whoever wants another source starts another player,
    which waits for the one ``before`` a little, as that may hold the very camera that is wanted.
    ``browse``: among several pictures it pauses at the first; once it goes on, each is shown for
    ``SLIDE_S``.
    """

    def __init__(
        self,
        stream: SourceStream,
        uri: str,
        make: Callable[[], Opening],
        *,
        is_wanted: Callable[[], bool],
        before: threading.Thread | None = None,
        loop: bool = False,
        browse: bool = False,
    ) -> None:
        super().__init__(stream)
        self._make, self._is_wanted = make, is_wanted
        self._browse, self._before = browse, before
        self._wake = threading.Condition()
        self._steps = 0
        self._seek_ns: int | None = None
        self._came = False  # a frame of this opening
        self._given: Frame | None = None  # the last one
        self._again = False  # it is to be given once more
        self._pace_anew = False
        self.has_opened = False
        self.fault: KestrelError | None = None  # what ended it
        self.state = SourceState(uri=uri, since_ns=monotonic_ns(), loop=loop)

    def leave(self) -> None:
        super().leave()
        with self._wake:
            self._wake.notify_all()

    def pause(self, paused: bool) -> None:
        """A recording stands still; of a camera the frames are thrown away."""
        with self._wake:
            self._note(paused=paused)
            self._steps = 0
            self._wake.notify_all()

    def step(self) -> None:
        """Pause, and let one more frame through."""
        with self._wake:
            if not self.state.paused:
                self._note(paused=True)
                self._steps = 0
            self._steps += 1
            self._wake.notify_all()

    def seek(self, position_ns: int) -> None:
        """Go on from there in a recording; while paused, show the one frame there."""
        with self._wake:
            self._seek_ns = max(0, position_ns)
            self._steps = 1 if self.state.paused else 0
            self._wake.notify_all()

    def set_speed(self, speed: float) -> None:
        with self._wake:
            self._note(speed=speed)
            self._pace_anew = True

    def set_loop(self, loop: bool) -> None:
        """Whether a recording begins again at its end; it does at once where it stands there."""
        with self._wake:
            self._note(loop=loop)
            self._wake.notify_all()

    def show_again(self) -> None:
        """Give the frame that stands once more, as it would be seen differently now.

        Nothing while frames flow: the next one will do.
        """
        with self._wake:
            self._again = True
            self._wake.notify_all()

    def state_changed(self, state: str, why: str) -> None:
        """See SourceListener; on this thread."""
        self._enter(state, error=why if state in LOST else "")

    def give_up(self, error: SourceError) -> None:
        self._fault(str(error))
        self.leave()

    def run(self) -> None:
        """Until it is told to leave, or the source fails; a recording may begin again."""
        if self._before is not None:
            self._before.join(HAND_OVER_S)
            self._before = None
        while not self.is_left and self.state.phase != "failed":
            self._play()

    def _play(self) -> None:
        """Open and play once. How it ended is in the state."""
        source: FrameSource | None = None
        self._came = False
        self._stream.renumber()
        try:
            source, label, recording = self._make()
            self._note(label=label, recording=recording)
            info = self._open(source)
            if self.state.phase not in LOST:  # else it is waited for
                self._opened(source, info)
            while not self.is_left:
                info = self._pass_on(source, info)
        except SourceEnded:
            if self._came:
                self._at_the_end()
            else:
                self._fault("the recording has no frame")
        except KestrelError as error:
            self.fault = error
            self._fault(str(error))
        except Exception as error:  # a defect of a source must not take the window with it
            log.debug("source failed", exc_info=True)
            self._fault(f"{type(error).__name__}: {error}")
        finally:
            if source is not None:
                source.close()

    def _opened(self, source: FrameSource, info: SourceInfo) -> None:
        if self._browse and info.stills and info.frame_count != 1 and not self.has_opened:
            self.pause(True)
            self._steps = 1
        self.has_opened = self._pace_anew = True
        duration_ns = None
        if self.state.recording and info.frame_count and info.fps:
            duration_ns = round(info.frame_count * 1e9 / info.fps)
        seekable = duration_ns is not None and isinstance(source, Seekable) and source.can_seek
        paceable = self.state.recording and isinstance(source, Paceable)
        self._note(info=info, duration_ns=duration_ns, seekable=seekable, paceable=paceable)
        self._stream.opened(self, info)

    def _pass_on(self, source: FrameSource, info: SourceInfo) -> SourceInfo:
        """One frame, once it may be read; returns what the source is now."""
        self._give_again()
        with self._wake:
            seek_ns, self._seek_ns = self._seek_ns, None
            stands = self.state.paused and not self._steps and seek_ns is None
            if self.state.recording and (stands or not self._is_wanted()):
                self._seek_ns = seek_ns
                self._wake.wait_for(self._may_go_on, READ_S)
                return info
        if seek_ns is not None and isinstance(source, Seekable) and source.can_seek:
            source.seek(seek_ns)
            self._stream.renumber()
        if self._pace_anew or (self._steps and self.state.recording):
            self._pace(source, info)
        frame, read_ns = self._read(source)
        if frame is None or self.is_left:
            return info
        if not self._came:
            self._came = True
            if self.state.phase != "live":
                self._enter("live", error="")
        if not self.state.recording and info.wh_px != frame.wh_px:
            info = replace(info, wh_px=frame.wh_px)  # it came back as another one
            self._opened(source, info)
        self._note(position_ns=frame.media_ns, last_frame_ns=monotonic_ns())
        if self._lets_through():
            self._given = frame
            self._stream.give(self, frame, read_ns)
        else:
            self._stream.renumber()
        return info

    def _pace(self, source: FrameSource, info: SourceInfo) -> None:
        """At the speed asked for; a step is due at once."""
        self._pace_anew = False
        if isinstance(source, Paceable):
            slide = 1 / (SLIDE_S * info.fps) if self._browse and info.stills and info.fps else 1.0
            source.speed = self.state.speed * slide

    def _may_go_on(self) -> bool:
        going = not self.state.paused or bool(self._steps) or self._seek_ns is not None
        return self.is_left or self._again or (going and self._is_wanted())

    def _give_again(self) -> None:
        with self._wake:
            again, self._again = self._again, False
            stands = self.state.phase == "ended" or (self.state.paused and not self._steps)
            frame = self._given if again and stands and self._seek_ns is None else None
        if frame is not None:
            self._stream.renumber()
            now = replace(frame, captured_ns=monotonic_ns(), still=0, still_ns=0)
            self._stream.give(self, now, 0)
            self._stream.renumber()

    def _lets_through(self) -> bool:
        with self._wake:
            if not self._is_wanted():
                return False
            if not self.state.paused:
                return True
            if not self._steps:
                return False
            self._steps -= 1
            return True

    def _at_the_end(self) -> None:
        """Begin again, or stand still until somebody moves in the recording."""
        if not self._is_over():
            return
        self._enter("ended", position_ns=self.state.duration_ns)
        while self._is_over():
            self._give_again()
            with self._wake:
                if self._is_over() and not self._again:
                    self._wake.wait(LOOK_S)

    def _is_over(self) -> bool:
        return not (self.is_left or self.state.loop) and self._seek_ns is None

    def _fault(self, text: str) -> None:
        if not self.is_left:
            log.warning("%s", text)
            self._enter("failed", error=text)

    def _enter(self, phase: str, **more: object) -> None:
        super().state_changed(phase, str(more.get("error", "")))
        since_ns = self.state.since_ns if goes_on(self.state.phase, phase) else monotonic_ns()
        self._note(phase=phase, since_ns=since_ns, **more)

    def _note(self, **changes: object) -> None:
        with self._wake:
            self.state = replace(self.state, **changes)  # type: ignore[arg-type]
