"""The one place that imports OpenCV for the sources: quiet, and only when a source needs it."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ConfigError


@functools.cache
def load_cv2() -> Any:
    """The cv2 module, with its and FFmpeg's own messages off unless the environment asks for them.

    What they would say is noise to a user; each source says in one line what went wrong.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    wanted = os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    if not hasattr(cv2, "CAP_PROP_N_THREADS") or not hasattr(cv2.dnn, "NMSBoxesBatched"):
        raise ConfigError(
            f"OpenCV {cv2.__version__} is too old; 4.7 or newer is needed: upgrade the system's "
            "python3-opencv, or, without GStreamer, pip install 'opencv-python<4.12' into .venv"
        )
    if wanted == "SILENT":  # somebody may have imported cv2 before the variable was set
        # OpenCV 4 has cv2.setLogLevel, OpenCV 5 only cv2.utils.logging.
        home: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
        home.setLogLevel(0)
    return cv2


def to_bgr(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, C-contiguous, from gray, BGRA or 16-bit pixels; BGR passes untouched."""
    cv2 = load_cv2()
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    elif pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(pixels, dtype=np.uint8)
