"""Areas of the picture, and faces, that nobody is to see.

Areas are hidden in the frame's own pixels on the capture thread, before anything else gets it: the
network, outputs, window and page see the same picture. Faces are known only after the network; they
are hidden in a copy before any sink sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.frame import Frame, planes

log = logging.getLogger(__name__)

MOST_AREAS, MOST_POINTS = 64, 100
MOST_PX = 1e6  # of a corner: far beyond any frame, and what OpenCV can draw
BLOCKS = 12  # across the shorter side of what is pixelated, at most …
LEAST_BLOCK_PX = 8  # … and none smaller
FACE, FACE_MARGIN, FACE_BLOCKS = "face", 0.15, 5  # margin: of the box, on each side
FACE_SCORE = 0.3  # faces are hidden from here on, whatever score is asked of what is reported
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateArea:
    """A polygon in parts of the frame, or pixels."""

    name: str
    points: tuple[tuple[float, float], ...]
    units: Literal["frame", "pixels"] = "frame"
    style: Literal["black", "pixelate"] = "black"

    def check(self) -> None:
        """Raise ConfigError for what cannot be meant: nothing is left unhidden by mistake."""
        where = f"points in [[privacy]] {self.name}"
        flat = [value for point in self.points for value in point]
        if not 3 <= len(self.points) <= MOST_POINTS or any(len(p) != 2 for p in self.points):
            raise ConfigError(f"{where} must be 3 to {MOST_POINTS} pairs [x, y]")
        if not np.isfinite(flat).all() or min(flat) < 0:
            raise ConfigError(f"{where} must be finite and not negative")
        if self.units == "frame" and max(flat) > 1:
            raise ConfigError(f'{where} are parts of the frame; for pixels add units = "pixels"')
        if max(flat) > MOST_PX:
            raise ConfigError(f"{where} go beyond {MOST_PX:,.0f} pixels, where no frame is")
        if _crosses_itself(np.array(self.points)):
            raise ConfigError(
                f"{where} make sides that cross, so that parts would stay visible: name the "
                "corners in their order around the area, or write several areas"
            )
        x, y = np.array(self.points).T
        if abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) < 1e-9:
            raise ConfigError(f"{where} lie on one line and enclose nothing")


class Privacy:
    """Of one source. Raises ConfigError where an area encloses nothing."""

    def __init__(self, areas: Sequence[PrivateArea], *, faces: bool) -> None:
        for area in areas:
            area.check()
        if len(areas) > MOST_AREAS:
            raise ConfigError(f"more than {MOST_AREAS} areas in [[privacy]]; take some away")
        self._areas, self._faces = tuple(areas), faces
        self._seen_wh: tuple[int, int] | None = None

    def lowest(self, score: float) -> float:
        """What the engine must report, where ``score`` is what everything else needs."""
        return min(score, FACE_SCORE) if self._faces else score

    def hide_areas(self, frame: Frame) -> Frame:
        """The frame, its areas hidden in place."""
        if not self._areas:
            return frame
        if not frame.pixels.flags.writeable:
            frame = replace(frame, pixels=frame.pixels.copy())
        if frame.wh_px != self._seen_wh:
            self._seen_wh = frame.wh_px
            self._tell_outside(*frame.wh_px)
        for area in self._areas:
            points = np.array(area.points)
            if area.units == "frame":
                points = points * frame.wh_px
            _hide(frame, points, style=area.style, blocks=BLOCKS)
        return frame

    def _tell_outside(self, width_px: int, height_px: int) -> None:
        for area in self._areas:
            left, top = np.array(area.points).min(axis=0)
            if area.units == "pixels" and (left >= width_px or top >= height_px):
                log.warning(
                    "[[privacy]] %s lies outside of the picture of %dx%d and hides nothing: "
                    "correct its points, or write them as parts of the frame",
                    *(area.name, width_px, height_px),
                )

    def hide_faces(self, result: Result, labels: Sequence[str]) -> Result:
        """The result with all detections of the label "face" pixelated in a copy of its frame."""
        if not self._faces or FACE not in labels:
            return result
        found = result.detections
        boxes = found.xyxy[found.class_ids == list(labels).index(FACE)]
        if not len(boxes):
            return result
        frame = replace(result.frame, pixels=result.frame.pixels.copy())
        for x1, y1, x2, y2 in boxes.astype(np.float64):
            dx, dy = (x2 - x1) * FACE_MARGIN, (y2 - y1) * FACE_MARGIN
            left, top, right, bottom = x1 - dx, y1 - dy, x2 + dx, y2 + dy
            corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            _hide(frame, np.clip(corners, 0, frame.wh_px), style="pixelate", blocks=FACE_BLOCKS)
        return replace(result, frame=frame)


def _crosses_itself(points: NDArray[np.float64]) -> bool:
    """Whether any two sides of the polygon (N, 2) cross, at more than a common end."""
    ends = np.roll(points, -1, axis=0)

    def side(at: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, N) signs: on which side of the line through side i the point j is."""
        way, to = ends - points, at[None] - points[:, None]
        signs: NDArray[np.float64] = np.sign(way[:, :1] * to[..., 1] - way[:, 1:] * to[..., 0])
        return signs

    parts = side(points) * side(ends) < 0
    return bool((parts & parts.T).any())


def _hide(frame: Frame, points: NDArray[np.float64], *, style: str, blocks: int) -> None:
    """Overwrite what lies within the polygon (N, 2) of source pixels."""
    import cv2

    width_px, height_px = frame.wh_px
    extent_px = np.ptp(points, axis=0).min()
    block_px = max(LEAST_BLOCK_PX, int(np.ceil(extent_px / blocks)))
    for view, black in _views(frame):
        rows, columns = view.shape[:2]
        scale = np.array((columns / width_px, rows / height_px))
        corners = np.floor(points * scale).astype(np.int32)
        if style == "black":
            cv2.fillPoly(view, [corners], black)  # with its border
            continue
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0) + 1
        part = view[max(0, top) : bottom, max(0, left) : right]
        if not part.size:
            continue
        small_wh = (
            np.maximum(1, np.round(part.shape[1::-1] / scale / block_px)).astype(int).tolist()
        )
        small = cv2.resize(part, small_wh, interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        if frame.format == "yuyv":  # two values of luma, which are neighbours
            coarse[..., 2] = coarse[..., 0]
        inside = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(inside, [corners - (max(0, left), max(0, top))], 1)
        np.copyto(part, coarse.reshape(part.shape), where=inside.astype(bool)[..., None])


def _views(frame: Frame) -> list[tuple[Pixels, tuple[int, ...]]]:
    """What the pixels consist of, each (H, W, C) or (H, W), and what black is there."""
    luma = 0 if frame.colour.full_range else 16
    match frame.format:
        case "i420":
            y, *chroma = planes(frame)
            return [(y[..., None], (luma,)), *((each[..., None], (128,)) for each in chroma)]
        case "nv12":
            y, pairs = planes(frame)
            return [(y[..., None], (luma,)), (pairs, (128, 128))]
        case "yuyv":
            rows, columns, _ = frame.pixels.shape
            pairs = frame.pixels.reshape(rows, columns // 2, 4)
            return [(pairs, (luma, 128, luma, 128))]
        case "gray8":
            return [(frame.pixels[..., None], (0,))]
        case "bgr8":
            return [(frame.pixels, (0, 0, 0))]
        case "bgra8":
            return [(frame.pixels, (0, 0, 0, 255))]
