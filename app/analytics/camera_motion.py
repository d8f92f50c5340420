"""How the camera moved between two frames, by sparse optical flow of the whole picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.frame import PLANAR, Frame, bgr_pixels, planes

LONGER_SIDE_PX = 320
MOST_CORNERS = 200
LEAST_CORNERS = 12  # that move alike; with fewer nothing is said


class CameraMotion:
    """Estimates the motion between the frames it is given, for ``Tracker.update``. Costs some
    milliseconds a frame, so it is meant for cameras that move ([track] camera_motion).
    Deterministic.
    """

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None

    def estimate(self, frame: Frame) -> NDArray[np.float64] | None:
        """(2, 3) from pixels of the frame before to pixels of this one.

        None where the picture shows too little, for the first frame, and where the size has
        changed.
        """
        import cv2

        pixels = planes(frame)[0] if frame.format in PLANAR else bgr_pixels(frame)
        scale = min(1.0, LONGER_SIDE_PX / max(pixels.shape[:2]))
        small: Any = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if small.ndim == 3:
            small = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            return None
        corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, 0.01, 5)
        if corners is None or len(corners) < LEAST_CORNERS:
            return None
        nothing: Any = None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, small, corners, nothing)
        good = found.ravel() == 1
        if np.count_nonzero(good) < LEAST_CORNERS:
            return None
        cv2.setRNGSeed(0)  # RANSAC draws at random
        matrix, inliers = cv2.estimateAffinePartial2D(corners[good], moved[good])
        if matrix is None or np.count_nonzero(inliers) < LEAST_CORNERS:
            return None
        motion = np.asarray(matrix, np.float64)
        motion[:, 2] /= scale
        return motion
