"""Detections and results of one frame, and how drawn detections look."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frame import Frame

# not the types: to compare with those NumPy makes a dtype of them each time
FLOAT32, INT32 = np.dtype(np.float32), np.dtype(np.int32)


@dataclass(frozen=True, slots=True)
class Detections:
    """Parallel arrays, validated once here and trusted everywhere else.

    xyxy: (N, 4) float32, source pixels, origin top-left, right and bottom exclusive.
    scores: (N,) float32 in 0..1, falling. class_ids: (N,) int32.
    keypoints: (N, K, 2) float32 source pixels, or None where the model has none.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    keypoints: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        _check("xyxy", self.xyxy, (n, 4), FLOAT32)
        _check("scores", self.scores, (n,), FLOAT32)
        _check("class_ids", self.class_ids, (n,), INT32)
        kps = self.keypoints
        if kps is not None and (kps.ndim != 3 or kps.shape[0] != n or kps.shape[2] != 2):
            raise ValueError(f"keypoints must be ({n}, K, 2), is {kps.shape}")
        if n > 1 and not (self.scores[:-1] >= self.scores[1:]).all():
            raise ValueError("scores must be falling")

    def __len__(self) -> int:
        return len(self.scores)

    def without(self, labels: Sequence[str], hidden: Collection[str]) -> Detections:
        """Those whose label is not hidden; the same object where none is."""
        if not hidden or not len(self):
            return self
        gone = [i for i, label in enumerate(labels) if label in hidden]
        kept = ~np.isin(self.class_ids, gone)
        if kept.all():
            return self
        points = None if self.keypoints is None else self.keypoints[kept]
        return Detections(self.xyxy[kept], self.scores[kept], self.class_ids[kept], points)

    @staticmethod
    def empty() -> Detections:
        """No detections: always the same object, as an empty scene asks for it at every frame."""
        return _NOTHING


def _check(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {shape} {dtype}, is {array.shape} {array.dtype}")


_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


@dataclass(frozen=True, slots=True)
class Result:
    """One processed frame as the sinks get it, in order.

    ``stages_ns`` maps a stage's name ("preprocess", "network", "postprocess", …) to nanoseconds.
    ``age_ns`` is now − captured at the moment the boxes were ready to leave the pipeline.
    """

    frame: Frame
    detections: Detections
    age_ns: int
    stages_ns: Mapping[str, int] = field(default_factory=dict)


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
