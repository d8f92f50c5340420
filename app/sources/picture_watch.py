"""Does a live source show the same picture for too long, or a black one?"""

from __future__ import annotations

import enum
import zlib

import numpy as np
from numpy.typing import NDArray

from app.frame import Frame

SAMPLES = 64  # rows and columns that are looked at
BLACK = 32  # of 255: darker is black; a covered lens gives noise below it
LIT_SHARE = 0.01  # a picture with so many lit pixels is not black: a lamp, a clock drawn in
LONGEST_PATIENCE_NS = 3_600_000_000_000


class Seen(enum.Enum):
    """What is new about the picture."""

    FROZEN = "frozen"
    BLACK = "black"
    LIT = "lit"  # no longer black


class PictureWatch:
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

    def look(self, frame: Frame, now_ns: int) -> Seen | None:
        """Take the next frame; at most one remark."""
        sample = _sample(frame)
        if self._frozen(frame, sample, now_ns):
            return Seen.FROZEN
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

    def _black_or_lit(self, frame: Frame, sample: NDArray[np.uint8], now_ns: int) -> Seen | None:
        if self._black_ns is None:
            return None
        luma = sample[..., 0] if frame.format == "yuyv" else sample  # colour is 128 where black
        if np.count_nonzero(luma > BLACK) > LIT_SHARE * luma.size:
            was_black, self._black, self._dark_since_ns = self._black, False, None
            return Seen.LIT if was_black else None
        if self._dark_since_ns is None:
            self._dark_since_ns = now_ns
        if self._black or now_ns - self._dark_since_ns < self._black_ns:
            return None
        self._black = True
        return Seen.BLACK


def _sample(frame: Frame) -> NDArray[np.uint8]:
    pixels = frame.pixels
    if frame.format == "nv12":
        pixels = pixels[: frame.wh_px[1]]
    down, across = (max(1, pixels.shape[axis] // SAMPLES) for axis in (0, 1))
    return pixels[down // 2 :: down, across // 2 :: across]
