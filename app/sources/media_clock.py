"""Where in the recording is each frame, even where the container's own word is no use?"""

from __future__ import annotations

import logging
import math

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0


def usable_fps(fps: float) -> float | None:
    """The rate if it can be one; containers without a rate give 0, NaN or their time base."""
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else None


class MediaClock:
    """Turns reported positions into rising nanoseconds that start at 0.

    From the first position on that does not rise (some AVI files), or is no number, every frame
    counts one period: a frame's place must never depend on when it was decoded.
    """

    def __init__(self, *, fps: float | None, label: str) -> None:
        self.period_ns = round(1e9 / (fps or DEFAULT_FPS))
        self._label = label
        self._origin_ms: float | None = None
        self._last_ns = 0
        self._trusted = True

    def position_ms(self, media_ns: int) -> float:
        """The container's own position for one of ours."""
        return (self._origin_ms or 0.0) + media_ns / 1e6

    def jump(self, media_ns: int) -> None:
        """The next frame comes from there: positions may fall this once."""
        self._last_ns = -1 if self._trusted else max(-1, media_ns - self.period_ns)

    def place(self, position_ms: float) -> int:
        """media_ns of the next frame in order, given its reported position."""
        if self._origin_ms is None:
            self._trusted = math.isfinite(position_ms)
            self._origin_ms = position_ms
            return 0
        place_ns = -1
        if self._trusted and math.isfinite(position_ms):
            place_ns = round((position_ms - self._origin_ms) * 1e6)
        if place_ns <= self._last_ns:
            if self._trusted:
                log.debug("%s: positions do not rise; going on by the frame rate", self._label)
            self._trusted = False
            place_ns = self._last_ns + self.period_ns
        self._last_ns = place_ns
        return place_ns
