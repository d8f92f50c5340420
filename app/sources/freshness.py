"""Is a frame as new as it says?"""

from __future__ import annotations

from app.frame import Frame

BACKLOG_NS = 2_000_000_000  # for so long after a restart a burst is taken for old frames
OLDEST_NS = 60_000_000_000  # no buffer keeps a frame for longer: an older stamp is a wrong one
AHEAD_NS = 1_000_000  # clocks are read one after the other


class Freshness:
    """Looks at the stamps of a live source's frames. Not thread-safe.

    Servers, and FFmpeg while it opens, keep frames and hand them over in a burst: those are older
    than they say. After a restart (an opening, a stall) frames count from when they come at their
    own pace.
    """

    def __init__(self) -> None:
        self._period_ns: float | None = None
        self._until_ns: int | None = None  # None: no burst is to be expected
        self._last: Frame | None = None
        self.clock_is_off = False

    def restart(self, now_ns: int, fps: float | None) -> None:
        """The source was opened, or gave nothing for long; ``fps`` is what it says of its rate."""
        self._period_ns = 1e9 / fps if fps else None
        self._until_ns, self._last = now_ns + BACKLOG_NS, None

    def captured_ns(self, frame: Frame, now_ns: int) -> int:
        """Its stamp, or now where that is on a clock that was set meanwhile."""
        self.clock_is_off = not -AHEAD_NS <= now_ns - frame.captured_ns < OLDEST_NS
        return now_ns if self.clock_is_off else min(frame.captured_ns, now_ns)

    def is_backlog(self, frame: Frame, now_ns: int) -> bool:
        """True for the first frame after a restart, and for those that follow it too quickly."""
        if self._until_ns is None:
            return False
        last, self._last = self._last, frame
        if self._period_ns and now_ns < self._until_ns:
            if last is None:
                return True
            took_ns = (frame.captured_ns - last.captured_ns) / max(1, frame.index - last.index)
            if took_ns < 0.5 * self._period_ns:
                return True
        self._until_ns = self._last = None
        return False
