"""Lets frames through while something moves, and few while nothing does."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import Protocol, runtime_checkable

from ..config import MotionOptions
from ..core.errors import SourceEnded
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Seekable
from .motion import BACK_NS, COLUMNS, FINE_COLUMNS, MotionDetector, StillAreas

EARLY = 0.9  # a frame is due that much before its time: the next may be far


@runtime_checkable
class Rests(Protocol):
    """A source that can leave most of its frames undecoded."""

    @property
    def can_rest(self) -> bool:
        """Known once it is open."""

    @property
    def resting(self) -> bool:
        """Whether looks are given, or will be from the next key frame on."""

    @property
    def looked(self) -> bool:
        """Whether the frame read last was a look: frames before it were left undecoded."""

    def rest(self) -> None:
        """Give a look now and then instead of all frames, soon."""

    def wake(self, *, back: bool) -> None:
        """Give all frames from the last look on, and if ``back`` from the look before."""


class MotionGate:
    """A source without the frames in which nothing moves. Used on the capture thread.

    A frame passes while something moves and for ``hold_s`` afterwards, else one every ``floor_s``.
    A source that can, rests meanwhile. When it is woken, the frames since the last look are given
    in a recording; in a live run they would be late, and those from now on are. The last frame of a
    recording passes, so that all before it are counted.
    """

    def __init__(self, inner: FrameSource, options: MotionOptions, still: StillAreas = ()) -> None:
        self.inner = inner
        self._floor_ns = round(options.floor_s * EARLY * 1e9)
        self._hold_ns, self._rests_too = round(options.hold_s * 1e9), options.wake_s > 0
        self._still = still
        self._regions = options.regions
        self._detector = self._new_detector()
        self._rests: Rests | None = None
        self._live = False
        self._left_out = False  # a frame since the last one given
        self._given: tuple[int, int] | None = None  # index and time of that
        self._last: Frame | None = None  # left out, and none given since
        self._ended = False
        self._until_ns = self._seen_ns = 0

    def open(self) -> SourceInfo:
        """See FrameSource."""
        info = self.inner.open()
        self._live = info.live
        if self._rests_too and isinstance(self.inner, Rests):
            self._rests = self.inner
        return info

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame that is worth an inference, None where there is none in time."""
        until_s = monotonic() + timeout_s
        while (frame := self._next(max(0.0, until_s - monotonic()))) is not None:
            if self._ended or self._passes(frame):
                return self._pass_on(frame)
            self._left_out, self._last = True, frame
            if monotonic() >= until_s:
                break
        return None

    def _next(self, timeout_s: float) -> Frame | None:
        try:
            return self.inner.read(timeout_s)
        except SourceEnded:
            last, self._last, self._ended = self._last, None, True
            if last is None:
                raise
            return last

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return isinstance(self.inner, Seekable) and self.inner.can_seek

    def seek(self, media_ns: int) -> None:
        """Go on from there; the first frame passes."""
        if isinstance(self.inner, Seekable):
            self.inner.seek(media_ns)
        self._detector, self._given, self._left_out = self._new_detector(), None, False
        self._last, self._ended = None, False

    def _new_detector(self) -> MotionDetector:
        return MotionDetector(self._still, columns=FINE_COLUMNS if self._regions else COLUMNS)

    def close(self) -> None:
        """See FrameSource."""
        self.inner.close()

    def _passes(self, frame: Frame) -> bool:
        now_ns, rests = frame.time_ns, self._rests
        if now_ns < self._seen_ns - BACK_NS:  # a recording that begins again
            self._given, self._until_ns = None, now_ns
        self._seen_ns = now_ns
        looked = rests is not None and rests.looked
        self._left_out |= looked
        comes_again = looked and not self._live
        if self._detector.moves(frame, again=comes_again):
            if rests is not None and rests.resting:
                rests.wake(back=comes_again)
            if comes_again:
                return False
            self._until_ns = now_ns + self._hold_ns
        if now_ns <= self._until_ns or self._given is None:
            return True
        if rests is not None and not rests.resting and rests.can_rest:
            rests.rest()
        return now_ns - self._given[1] >= self._floor_ns

    def _pass_on(self, frame: Frame) -> Frame:
        if self._regions:
            frame = replace(frame, regions=self._detector.where)
        before, self._given = self._given, (frame.index, frame.time_ns)
        left_out, self._left_out, self._last = self._left_out, False, None
        if not left_out or before is None:
            return frame
        still = max(0, frame.index - before[0] - 1)
        return replace(frame, still=still, still_ns=max(0, frame.time_ns - before[1]))
