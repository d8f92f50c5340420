"""Health of live frames: backlog, frozen or black picture."""

from __future__ import annotations

import enum
import zlib

import numpy as np
from numpy.typing import NDArray

from ..core.frame import PLANAR, Frame

BACKLOG_NS = 2_000_000_000  # for so long after a restart a burst is taken for old frames
OLDEST_NS = 60_000_000_000  # no buffer keeps a frame for longer: an older stamp is a wrong one
AHEAD_NS = 1_000_000  # clocks are read one after the other


class BacklogFilter:
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


SAMPLES = 64  # rows and columns that are looked at
BLACK = 32  # of 255: darker is black; a covered lens gives noise below it
BLACK_LIMITED = 16 + BLACK * 219 // 255  # the same, of luma in the limited range
LIT_SHARE = 0.01  # a picture with so many lit pixels is not black: a lamp, a clock drawn in
LONGEST_PATIENCE_NS = 3_600_000_000_000


class PictureFault(enum.Enum):
    """What is new about the picture."""

    FROZEN = "frozen"
    BLACK = "black"
    LIT = "lit"  # no longer black


class FreezeDetector:
    """Looks at a few thousand pixels of every frame. Not thread-safe.

    A real sensor's noise makes every picture another one, however still the scene; only the same
    bytes, every one of them, count as frozen. A source that is found frozen again with the very
    same picture (somebody streams a still) is given twice the time each time.
    """

    def __init__(self, *, freeze_s: float | None, black_s: float | None) -> None:
        self._freeze_ns = None if freeze_s is None else round(freeze_s * 1e9)
        self._black_ns = None if black_s is None else round(black_s * 1e9)
        self._patience_ns = self._freeze_ns or 0
        self._mark: int | None = None
        self._since_ns = 0  # when this picture was first seen
        self._whole: int | None = None  # of all pixels, once the sample has been the same for long
        self._dark_since_ns: int | None = None
        self._black = False

    def look(self, frame: Frame, now_ns: int) -> PictureFault | None:
        """Take the next frame; at most one remark."""
        sample = _sample(frame)
        if self._frozen(frame, sample, now_ns):
            return PictureFault.FROZEN
        return self._black_or_lit(frame, sample, now_ns)

    def restart(self, now_ns: int) -> None:
        """The source was away: what it shows is judged from now on."""
        self._since_ns = now_ns
        self._whole = None
        self._dark_since_ns = None

    def _frozen(self, frame: Frame, sample: NDArray[np.uint8], now_ns: int) -> bool:
        if self._freeze_ns is None:
            return False
        mark = zlib.crc32(sample.tobytes())
        if mark != self._mark:
            self._mark, self._whole = mark, None
            self._since_ns, self._patience_ns = now_ns, self._freeze_ns
            return False
        if now_ns - self._since_ns < self._patience_ns / 2:
            return False
        # Between the samples something small may move: from here on every pixel counts.
        whole = zlib.crc32(frame.pixels.data)
        if whole != self._whole:
            first = self._whole is None
            self._whole = whole
            if not first:
                self._since_ns = now_ns - self._patience_ns // 2
            return False
        if now_ns - self._since_ns < self._patience_ns:
            return False
        self._patience_ns = min(2 * self._patience_ns, LONGEST_PATIENCE_NS)
        self.restart(now_ns)
        return True

    def _black_or_lit(
        self, frame: Frame, sample: NDArray[np.uint8], now_ns: int
    ) -> PictureFault | None:
        if self._black_ns is None:
            return None
        luma = sample[..., 0] if frame.format == "yuyv" else sample  # colour is 128 where black
        limited = frame.format in (*PLANAR, "yuyv") and not frame.colour.full_range
        lit = luma > (BLACK_LIMITED if limited else BLACK)
        if np.count_nonzero(lit) > LIT_SHARE * luma.size:
            was_black, self._black, self._dark_since_ns = self._black, False, None
            return PictureFault.LIT if was_black else None
        if self._dark_since_ns is None:
            self._dark_since_ns = now_ns
        if self._black or now_ns - self._dark_since_ns < self._black_ns:
            return None
        self._black = True
        return PictureFault.BLACK


def _sample(frame: Frame) -> NDArray[np.uint8]:
    pixels = frame.pixels
    if frame.format in PLANAR:
        pixels = pixels[: frame.wh_px[1]]
    down, across = (max(1, pixels.shape[axis] // SAMPLES) for axis in (0, 1))
    return pixels[down // 2 :: down, across // 2 :: across]
