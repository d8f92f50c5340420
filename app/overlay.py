"""What do drawn detections look like: which colour, which text, how thick?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.frame import Frame

Rgb = tuple[int, int, int]

# Bright, saturated and far apart from one another, so that they show on photographs: neighbouring
# class ids (a model's commonest ones) get the most different hues.
PALETTE: tuple[Rgb, ...] = (
    (57, 219, 94),
    (255, 159, 28),
    (64, 169, 255),
    (255, 92, 138),
    (255, 221, 64),
    (178, 130, 255),
    (38, 220, 214),
    (255, 110, 64),
    (166, 226, 46),
    (240, 128, 240),
    (122, 199, 255),
    (214, 178, 120),
)


def colour_of(class_id: int) -> Rgb:
    """The class's colour as (red, green, blue) 0..255; the same one in every run."""
    return PALETTE[class_id % len(PALETTE)]


def text_colour_on(background: Rgb) -> Rgb:
    """Black or white, whichever is read more easily on it (Rec. 709 luma weights)."""
    red, green, blue = background
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110 else (255, 255, 255)


def printable(text: str) -> str:
    """Without control characters: labels come from files and must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def label_of(labels: Sequence[str], class_id: int) -> str:
    """The class's label, or ``class N`` where the model has no name for it."""
    return labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"


def caption(labels: Sequence[str], class_id: int, score: float) -> str:
    """What is written at a box."""
    return f"{printable(label_of(labels, class_id))} {score:.2f}"


def line_width_px(wh_px: tuple[int, int]) -> int:
    """Width of a box's line that looks alike on small and large frames.

    At least 2: one pixel would lose its colour in video, where colour has half the resolution.
    """
    return max(2, round(min(wh_px) / 240))


def bgr_pixels(frame: Frame) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR of the frame: its own array where it is BGR already, else a new one."""
    if frame.format == "bgr8":
        return frame.pixels
    import cv2

    code = {
        "bgra8": cv2.COLOR_BGRA2BGR,
        "gray8": cv2.COLOR_GRAY2BGR,
        "yuyv": cv2.COLOR_YUV2BGR_YUY2,
        "nv12": cv2.COLOR_YUV2BGR_NV12,
    }[frame.format]
    return np.asarray(cv2.cvtColor(frame.pixels, code), np.uint8)
