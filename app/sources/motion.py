"""Motion in a fixed camera's picture: which frames are worth an inference, and which are still.

Works on the luma of a small picture (160 cells wide, each the mean of the pixels below it). What
the scene looks like, and how much each cell wavers by itself (noise, rain, leaves, a clock burnt
in), is learned as running means over time, so that the rate of the frames does not matter. A pure
function of the frames and their times: a replay decides as the run did.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.frame import PLANAR, Frame
from .base import load_cv2

COLUMNS, CELL_PX = 160, 4  # of the small picture at most; of a cell at least
FINE_COLUMNS = 320  # where small things count
ROWS_OF_A_CELL = 3  # of the picture that are looked at
SCENE_S = 2.0  # time constant of what the scene looks like: what stands still is soon part of it
WAVER_S = 60.0  # of how much a cell wavers by itself: a passer-by leaves little in it
LEAST_DIFFERENCE = 7.0  # of 255, of a cell; codecs and sensors stay below it
WAVERS = 4.0  # a difference of so many mean deviations is motion …
MOST_DIFFERENCE = 32.0  # … but in places of some size this much always is
MOST_WAVER = 64.0  # that is learned
SMALL, LARGE = 8, 24  # cells that touch: what the network can find covers more, a digit less
ELSEWHERE = 0.5  # share of the cells that change at once when the light or the view does
StillAreas = Sequence[tuple[bool, Sequence[tuple[float, float]]]]
BACK_NS = 5_000_000_000  # a time that runs back further is another recording


class MotionDetector:
    """Whether something moves, frame by frame. Not thread-safe. ``still``: see SourceOptions.

    ``where``: xyxy in pixels of the last frame, of each thing that moves; None: all of it may.
    """

    def __init__(self, still: StillAreas = (), *, columns: int = COLUMNS) -> None:
        self._still, self._columns = still, columns
        self.where: tuple[tuple[int, ...], ...] | None = None
        self._counts: NDArray[np.uint8] | None = None  # 1: cells in which motion counts
        self._scene: NDArray[np.float32] | None = None
        self._waver: NDArray[np.float32] | None = None
        self._time_ns = self._first_ns = 0

    def moves(self, frame: Frame, *, again: bool = False) -> bool:
        """Whether it differs from the scene by more than the scene does from itself.

        ``again``: if something moves, this frame comes again after those before it, and nothing
        is learned from it yet.
        """
        cv2 = load_cv2()
        cells = small_luma(frame, self._columns)
        time_ns = frame.time_ns
        scene, waver = self._scene, self._waver
        if scene is None or waver is None or scene.shape != cells.shape:
            self._begin(cells, time_ns)
            self._place(frame, cells)
            return True
        step_s = max(0, time_ns - self._time_ns) * 1e-9
        if self._time_ns - time_ns > BACK_NS:  # another recording
            self._begin(cells, time_ns)
            return True
        # what all cells share is the light, or the camera's exposure
        light = float(np.median((cells - scene)[::4, ::4]))
        difference = cv2.absdiff(cells, scene + np.float32(light))
        limit = np.maximum(waver * WAVERS, LEAST_DIFFERENCE)
        if self._counts is not None:
            difference *= self._counts
        small = difference > limit
        large = difference > np.minimum(limit, MOST_DIFFERENCE)
        elsewhere = int(np.count_nonzero(large)) > ELSEWHERE * cells.size
        things = [*_touch(small, SMALL), *_touch(large, LARGE)]
        moves = elsewhere or bool(things)
        scale = np.tile(np.divide(frame.wh_px, cells.shape[::-1]), 2)
        boxes = [np.rint(box * scale).astype(int).tolist() for box in things]
        self.where = None if elsewhere else tuple(map(tuple, boxes))
        if moves and again:
            return True
        self._time_ns = max(time_ns, self._time_ns)
        if elsewhere:
            self._scene = cells
        elif step_s:
            since_s = (time_ns - self._first_ns) * 1e-9  # at first the mean of what there was
            cv2.accumulateWeighted(cells, scene, min(1.0, step_s / min(SCENE_S, since_s)))
            np.minimum(difference, MOST_WAVER, out=difference)
            cv2.accumulateWeighted(difference, waver, min(1.0, step_s / min(WAVER_S, since_s + 5)))
        return moves

    def _begin(self, cells: NDArray[np.float32], time_ns: int) -> None:
        self.where = None
        self._scene, self._waver = cells, np.full(cells.shape, 1.5, np.float32)
        self._time_ns = self._first_ns = time_ns

    def _place(self, frame: Frame, cells: NDArray[np.float32]) -> None:
        if not self._still:
            return
        rows, columns = cells.shape
        self._counts = np.ones(cells.shape, np.uint8)
        for in_pixels, points in self._still:
            scale = (columns, rows) / np.array(frame.wh_px if in_pixels else (1, 1))
            corners = np.round(np.array(points) * scale).astype(np.int32)
            load_cv2().fillPoly(self._counts, [corners], 0)


def small_luma(frame: Frame, most: int = COLUMNS) -> NDArray[np.float32]:
    """(rows, ``most``) or less: the mean luma of each cell."""
    cv2 = load_cv2()
    width_px, height_px = frame.wh_px
    columns = max(1, min(most, width_px // CELL_PX))
    rows = max(1, round(height_px * columns / width_px))
    step = max(1, height_px // (rows * ROWS_OF_A_CELL))
    pixels = frame.pixels[:height_px:step]
    if frame.format == "yuyv":
        pixels = np.ascontiguousarray(pixels[..., 0])
    cells = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    if frame.format not in (*PLANAR, "gray8", "yuyv"):
        cells = cv2.cvtColor(
            cells, cv2.COLOR_BGRA2GRAY if frame.format == "bgra8" else cv2.COLOR_BGR2GRAY
        )
    return np.asarray(cells, np.float32)


def _touch(cells: NDArray[np.bool_], least: int) -> NDArray[np.int32]:
    """(N, 4) xyxy of where so many of these cells touch each other."""
    if np.count_nonzero(cells) < least:
        return np.zeros((0, 4), np.int32)
    found = load_cv2().connectedComponentsWithStats(cells.view(np.uint8), connectivity=8)
    boxes = found[2][1:]  # row 0 is all the rest; x, y, width, height, cells
    boxes = boxes[boxes[:, 4] >= least, :4]
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
