"""One captured frame, what a source says of itself, and the pool of reused pixel buffers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

PixelFormat = Literal["bgr8", "bgra8", "gray8", "yuyv", "nv12", "i420"]
PLANAR = ("nv12", "i420")  # (H·3/2, W): luma above, chroma at half the size below; H and W even


class Colour(NamedTuple):
    """How YUV values mean colours (ITU-T H.273): matrix coefficients, and full or limited range."""

    matrix: Literal["bt601", "bt709", "bt2020"] = "bt601"
    full_range: bool = False


BT601 = Colour()
# shares of red and blue in the luma (H.273, table 4)
_LUMA_SHARES = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}


@cache
def yuv_to_bgr(colour: Colour) -> NDArray[np.float64]:
    """(3, 4): its rows times (Y, U, V, 1) are B, G and R, all from 0 to 255, not yet clipped.

    By H.273, section 8.3; BT.2020 with non-constant luminance.
    """
    red, blue = _LUMA_SHARES[colour.matrix]
    luma, chroma, black = (1.0, 1.0, 0) if colour.full_range else (255 / 219, 255 / 224, 16)
    blue_u, red_v = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    green_u, green_v = (-share / (1 - red - blue) for share in (blue_u * blue, red_v * red))
    rows = np.array([[luma, blue_u, 0], [luma, green_u, green_v], [luma, 0, red_v]])
    return np.column_stack([rows, -rows @ (black, 128, 128)])


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was captured.

    ``pixels`` is uint8, C-contiguous; by ``format`` (H, W, 3) "bgr8", (H, W, 4) "bgra8", (H, W)
    "gray8", (H, W, 2) "yuyv" or (H·3/2, W) "nv12" and "i420". ``captured_ns`` is on the monotonic
    clock; ``media_ns`` is the position in the recording, None when live. ``lane``: the number of
    its source among those of a run. ``colour`` concerns the YUV formats. ``pixel_aspect``: width of
    a stored pixel over its height as displayed; boxes and sizes are in stored pixels.
    ``stream_ns``: its time on the clock of its stream's packets, None where there are none.
    ``regions``: xyxy of what moves in it, None where nobody has looked.
    ``still``: so many frames before it were left out as nothing moved in them, for ``still_ns``.
    """

    pixels: NDArray[np.uint8]
    index: int
    captured_ns: int
    media_ns: int | None = None
    format: PixelFormat = "bgr8"
    lane: int = 0
    colour: Colour = BT601
    pixel_aspect: float = 1.0
    stream_ns: int | None = None
    still: int = 0
    still_ns: int = 0
    regions: Sequence[Sequence[int]] | None = None
    _bgr: NDArray[np.uint8] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def wh_px(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height = self.pixels.shape[0]
        return self.pixels.shape[1], height * 2 // 3 if self.format in PLANAR else height

    @property
    def time_ns(self) -> int:
        """Its time among its source's frames: in the recording, or of capture when live."""
        return self.captured_ns if self.media_ns is None else self.media_ns


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source knows once it is open; None where it cannot tell."""

    uri: str  # credentials already masked
    live: bool  # True: frames come at their own pace and old ones are worthless
    wh_px: tuple[int, int] | None = None
    fps: float | None = None
    frame_count: int | None = None  # a container's own word; may be wrong by one
    detail: str = ""  # for the log: codec, driver, pixel format
    name: str = ""  # among several sources of a run
    stills: bool = False  # pictures, of which each may be looked at for as long as one likes


def describe(info: SourceInfo) -> str:
    """One line for the log: size, rate, length, codec."""
    parts = []
    if info.wh_px:
        parts.append(f"{info.wh_px[0]}x{info.wh_px[1]}")
    if info.fps:
        parts.append(f"{info.fps:g} frames/s")
    if info.frame_count:
        parts.append(f"{info.frame_count} frames")
    if info.detail:
        parts.append(info.detail)
    return ", ".join(parts) or "open"


def planes(frame: Frame) -> tuple[NDArray[np.uint8], ...]:
    """Views of an "i420" frame: Y (H, W), U, V (H/2, W/2); of "nv12": Y and UV (H/2, W/2, 2)."""
    width, height = frame.wh_px
    luma, chroma = frame.pixels[:height], frame.pixels[height:]
    if frame.format == "nv12":
        return luma, chroma.reshape(height // 2, width // 2, 2)
    return luma, *chroma.reshape(2, height // 2, width // 2)


def cropped(frame: Frame, left: int, top: int, right: int, bottom: int) -> Frame:
    """A copy of the part of a frame; of YUV formats all corners must be even."""
    part = np.s_[top:bottom, left:right]
    if frame.format not in PLANAR:
        return replace(frame, pixels=np.ascontiguousarray(frame.pixels[part]))
    luma, *chroma = planes(frame)
    half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    below = [plane[half].reshape(-1) for plane in chroma]
    pixels = np.concatenate((luma[part].reshape(-1), *below)).reshape(-1, right - left)
    return replace(frame, pixels=pixels)


def bgr_pixels(frame: Frame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR of the frame; do not write to it: all who ask get the same array.

    It is made when somebody asks first. Any thread: two at once do the same work twice.
    """
    if frame.format == "bgr8":
        return frame.pixels
    bgr = frame._bgr
    if bgr is None:
        yuv = frame.format in (*PLANAR, "yuyv")
        bgr = _bgr_of_yuv(frame) if yuv and frame.colour != BT601 else _bgr_by_code(frame)
        object.__setattr__(frame, "_bgr", bgr)
    return bgr


def _bgr_by_code(frame: Frame) -> NDArray[np.uint8]:
    import cv2

    code = {
        "bgra8": cv2.COLOR_BGRA2BGR,
        "gray8": cv2.COLOR_GRAY2BGR,
        "yuyv": cv2.COLOR_YUV2BGR_YUY2,
        "nv12": cv2.COLOR_YUV2BGR_NV12,
        "i420": cv2.COLOR_YUV2BGR_I420,
    }[frame.format]
    return np.asarray(cv2.cvtColor(frame.pixels, code), np.uint8)


STRIP = 64  # lines that are converted at a time: what lies between stays in the cache


def _bgr_of_yuv(frame: Frame) -> NDArray[np.uint8]:
    """OpenCV converts by BT.601 in the limited range only; as there, chroma is repeated."""
    import cv2

    if frame.format == "i420":
        luma, u, v = planes(frame)
    elif frame.format == "nv12":
        luma, pairs = planes(frame)
        u, v = cv2.split(pairs)  # type: ignore[assignment]
    else:
        y0, u, y1, v = cv2.split(frame.pixels.reshape(len(frame.pixels), -1, 4))  # type: ignore[assignment]
        luma = cv2.merge((y0, y1)).reshape(frame.pixels.shape[:2])  # type: ignore[assignment]
    bgr = np.empty((*luma.shape, 3), np.uint8)
    matrix, lines = yuv_to_bgr(frame.colour), len(luma) // len(u)  # of luma for one of chroma
    for top in range(0, len(luma), STRIP):
        strip = luma[top : top + STRIP]
        part = slice(top // lines, (top + len(strip)) // lines)
        # each value twice, which merge does three times as fast as resize
        wide = [cv2.merge((each, each)).reshape(len(each), -1) for each in (u[part], v[part])]
        yuv = np.empty((*strip.shape, 3), np.uint8)
        for i in range(lines):
            cv2.merge((strip[i::lines], *wide), dst=yuv[i::lines])
        cv2.transform(yuv, matrix, dst=bgr[top : top + STRIP])
    return bgr


class FramePool:
    """Recycles (H, W, 3) uint8 arrays once nobody holds them or a view of them any more.

    Every array that is handed out is a view of an array that stays here. NumPy lets each view,
    however it was derived, hold a reference to the array that owns the memory, so the owner's
    reference count tells whether somebody still looks at it: nothing has to be given back.

    ``acquire`` is called from one thread; the views may be dropped on any thread.
    """

    def __init__(self, capacity: int = 8) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, is {capacity}")
        self._capacity = capacity
        self._shape: tuple[int, ...] = ()
        self._owners: list[NDArray[np.uint8]] = []
        self._idle_refs: list[int] = []

    def acquire(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of this shape that nobody else holds; its content is undefined.

        A new shape lets go of all arrays of the old one. When ``capacity`` arrays are held, the
        answer is a fresh array that the pool does not keep.
        """
        if shape != self._shape:
            self._shape = shape
            self._owners.clear()
            self._idle_refs.clear()
        for i, idle in enumerate(self._idle_refs):
            if self._refs(i) == idle:
                return self._owners[i][...]
        fresh = np.empty(shape, np.uint8)
        if len(self._owners) < self._capacity:
            self._owners.append(fresh)
            del fresh  # or the local name would count as a holder
            self._idle_refs.append(self._refs(-1))
            return self._owners[-1][...]
        return fresh

    def _refs(self, i: int) -> int:
        # One expression for the baseline and for every later look: what CPython itself adds to the
        # count differs between versions, but not between two runs of the same line.
        return sys.getrefcount(self._owners[i])
