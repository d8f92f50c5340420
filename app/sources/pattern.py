"""The test pattern: moving boxes at known places."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, SourceEnded
from ..core.frame import Frame, FramePool, SourceInfo

MARGIN_PX = 8  # the strip below the lanes, where the sweeping mark moves
MAX_SIDE_PX = 16384


@dataclass(frozen=True, slots=True)
class PatternOptions:
    """What the pattern shows. ``frames`` None: it never ends."""

    wh_px: tuple[int, int] = (640, 360)
    fps: float = 30.0
    boxes: int = 3
    frames: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        width_px, height_px = self.wh_px
        if not (32 <= width_px <= MAX_SIDE_PX and 32 <= height_px <= MAX_SIDE_PX):
            raise ConfigError(
                f"pattern size must be 32 to {MAX_SIDE_PX} each way, is {width_px}x{height_px}"
            )
        if not 0 < self.fps <= 10_000:
            raise ConfigError(f"pattern fps must be above 0 and at most 10000, is {self.fps:g}")
        if not 0 <= self.boxes <= (height_px - MARGIN_PX) // 8:
            raise ConfigError(
                f"pattern boxes must be 0 to {(height_px - MARGIN_PX) // 8} at this height, "
                f"is {self.boxes}"
            )
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"pattern frames must be at least 1, is {self.frames}")


class PatternSource:
    """Boxes that swing in lanes of their own, so that none ever hides another.

    The same seed and index give the same pixels. ``live``: a clock ticks like a camera's, and a
    tick that nobody reads is lost, index and all; else each read gives the next frame at once.
    """

    def __init__(
        self,
        options: PatternOptions,
        *,
        label: str = "pattern:",
        live: bool,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._label = label
        self._live = live
        self._now_ns = now_ns
        self._sleep = sleep
        self._pool = FramePool()
        self._next = 0
        self._started_ns: int | None = None
        self._plan()

    def _plan(self) -> None:
        width_px, height_px = self._options.wh_px
        count = self._options.boxes
        rng = np.random.default_rng(self._options.seed)
        lane_px = (height_px - MARGIN_PX) // max(count, 1)
        sizes_px = np.column_stack(
            [
                rng.integers(width_px // 8, width_px // 4 + 1, count),
                rng.integers(lane_px // 2, lane_px - 1, count),
            ]
        )
        tops_px = np.arange(count) * lane_px + (lane_px - sizes_px[:, 1]) // 2
        self._w_px, self._h_px, self._y0_px = sizes_px[:, 0], sizes_px[:, 1], tops_px
        self._range_px = width_px - self._w_px
        self._phase_px = rng.integers(0, 2 * self._range_px)
        self._speed_px = rng.integers(1, max(2, width_px // 60) + 1, count)
        self._colours = rng.integers(128, 256, (count, 3), dtype=np.uint8)
        self._colours[np.arange(count), np.arange(count) % 3] = 0  # strong, and unlike the ground
        across, down = np.linspace(30, 90, width_px), np.linspace(0, 30, height_px)
        self._ground = np.empty((height_px, width_px, 3), np.uint8)
        for y in range(0, height_px, 16):  # by rows: in one go it takes 8 times the ground's memory
            rows = self._ground[y : y + 16]
            grain = rng.integers(0, 6, rows.shape[:2])
            rows[:] = (across + down[y : y + 16, None] + grain).astype(np.uint8)[..., None]

    def pattern_boxes(self, index: int) -> NDArray[np.float32]:
        """(N, 4) float32 xyxy in pixels, right and bottom exclusive: what frame ``index`` shows."""
        step_px = (self._phase_px + self._speed_px * index) % (2 * self._range_px)
        x0_px = np.where(step_px < self._range_px, step_px, 2 * self._range_px - step_px)
        return np.column_stack(
            [x0_px, self._y0_px, x0_px + self._w_px, self._y0_px + self._h_px]
        ).astype(np.float32)

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Frame ``index`` in a recycled buffer."""
        pixels = self._pool.acquire(self._ground.shape)
        np.copyto(pixels, self._ground)
        for box, colour in zip(self.pattern_boxes(index).astype(int), self._colours, strict=True):
            x0_px, y0_px, x1_px, y1_px = box
            pixels[y0_px:y1_px, x0_px:x1_px] = colour
        mark_px = index * 4 % (self._options.wh_px[0] - 3)
        pixels[-MARGIN_PX + 2 :, mark_px : mark_px + 4] = 255  # no two neighbours look the same
        return pixels

    def open(self) -> SourceInfo:
        """Describe the pattern."""
        options = self._options
        detail = f"test pattern, {options.boxes} boxes, seed {options.seed}"
        return SourceInfo(
            self._label, self._live, options.wh_px, options.fps, options.frames, detail
        )

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; live, None when its tick does not come in time."""
        if self._live and not self._wait_for_tick(timeout_s):
            return None
        index = self._next
        frames = self._options.frames
        if frames is not None and index >= frames:
            raise SourceEnded
        captured_ns = self._now_ns()
        self._next += 1
        media_ns = None if self._live else round(index * 1e9 / self._options.fps)
        return Frame(self.draw(index), index, captured_ns, media_ns)

    def _wait_for_tick(self, timeout_s: float) -> bool:
        """Sets ``_next`` to the tick that is due: later ticks than expected were missed."""
        now_ns = self._now_ns()
        if self._started_ns is None:
            self._started_ns = now_ns
        due_ns = self._started_ns + round(self._next * 1e9 / self._options.fps)
        if due_ns > now_ns:
            wait_s = (due_ns - now_ns) / 1e9
            self._sleep(min(wait_s, timeout_s))
            return wait_s <= timeout_s
        ticks = int((now_ns - self._started_ns) * self._options.fps / 1e9)
        self._next = max(self._next, ticks)
        return True

    def close(self) -> None:
        """Nothing to let go of."""
