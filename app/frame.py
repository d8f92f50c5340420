"""What is one captured frame, and what does a source say of itself?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PixelFormat = Literal["bgr8", "bgra8", "gray8", "yuyv", "nv12"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it was captured.

    ``pixels`` is uint8, C-contiguous; by ``format`` (H, W, 3) "bgr8", (H, W, 4) "bgra8", (H, W)
    "gray8", (H, W, 2) "yuyv" or (H·3/2, W) "nv12". ``captured_ns`` is on the monotonic clock;
    ``media_ns`` is the position in the recording, None when live. ``lane``: the number of its
    source among those of a run.
    """

    pixels: NDArray[np.uint8]
    index: int
    captured_ns: int
    media_ns: int | None = None
    format: PixelFormat = "bgr8"
    lane: int = 0

    @property
    def wh_px(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height = self.pixels.shape[0]
        return self.pixels.shape[1], height * 2 // 3 if self.format == "nv12" else height


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
