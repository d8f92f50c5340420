"""How does a recording play at its own speed, as if a camera saw it now?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Seekable

MAX_LATE_NS = 500_000_000  # later than that, the clock restarts: no burst to catch up


class Paced:
    """Holds each frame of a recording until it is due; a live source passes untouched.

    The first frame starts the clock. Small lateness is caught up, so that the clip keeps its
    length; after a long one (the machine slept, decoding is too slow) the clock starts again.
    """

    def __init__(
        self,
        inner: FrameSource,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self._now_ns = now_ns
        self._sleep = sleep
        self._held: Frame | None = None
        self._origin_ns: int | None = None  # the moment at which position 0 was, or would be, due

    def open(self) -> SourceInfo:
        """Open the recording; it counts as live from here on."""
        return replace(self.inner.open(), live=True)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame once it is due, stamped as captured now; None if not due in time."""
        deadline_ns = self._now_ns() + round(timeout_s * 1e9)
        if self._held is None:
            self._held = self.inner.read(timeout_s)
        frame = self._held
        if frame is None:
            return None
        if frame.media_ns is None:
            self._held = None
            return frame
        now_ns = self._now_ns()
        if self._origin_ns is None or now_ns - self._origin_ns - frame.media_ns > MAX_LATE_NS:
            self._origin_ns = now_ns - frame.media_ns
        due_ns = self._origin_ns + frame.media_ns
        if due_ns > now_ns:
            self._sleep(max(0, min(due_ns, deadline_ns) - now_ns) / 1e9)
            if due_ns > deadline_ns:
                return None
        self._held = None
        return replace(frame, captured_ns=self._now_ns())

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return isinstance(self.inner, Seekable) and self.inner.can_seek

    def seek(self, media_ns: int) -> None:
        """Go on from there; the clock starts again."""
        if isinstance(self.inner, Seekable):
            self.inner.seek(media_ns)
        self._held = self._origin_ns = None

    def close(self) -> None:
        """Close the recording."""
        self._held = None
        self.inner.close()
