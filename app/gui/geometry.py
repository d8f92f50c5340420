"""Where does each pixel of the frame lie in the view: fitted, one to one, zoomed, moved?"""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_ZOOM = 32.0  # device pixels a frame's pixel
STEP = 1.25


@dataclass(frozen=True, slots=True)
class Placement:
    """A point (x, y) of the frame lies at (x0 + scale x, y0 + scale y), in logical pixels."""

    scale: float
    x0: float
    y0: float

    def to_frame(self, x: float, y: float) -> tuple[float, float]:
        """The frame's point at a place in the view."""
        return (x - self.x0) / self.scale, (y - self.y0) / self.scale


def fit(frame_wh_px: tuple[int, int], room_wh: tuple[int, int]) -> Placement:
    """Centred, as large as it fits."""
    (frame_w, frame_h), (width, height) = frame_wh_px, room_wh
    scale = min(width / frame_w, height / frame_h)
    return Placement(scale, (width - frame_w * scale) / 2, (height - frame_h * scale) / 2)


class Camera:
    """The user's choice of scale and place; ``zoom`` None fits the frame into the view.

    ``zoom`` is in device pixels a frame's pixel, so that 1 is sharp on every screen.
    """

    def __init__(self) -> None:
        self.zoom: float | None = None
        self._centre = (0.5, 0.5)  # of the view, as a share of the frame

    def place(
        self, frame_wh_px: tuple[int, int], room_wh: tuple[int, int], ratio: float
    ) -> Placement:
        """For a view of this size with ``ratio`` device pixels a logical one."""
        if self.zoom is None:
            placed = fit(frame_wh_px, room_wh)
        else:
            scale = self.zoom / ratio
            placed = Placement(
                scale,
                _offset(frame_wh_px[0] * scale, room_wh[0], self._centre[0]),
                _offset(frame_wh_px[1] * scale, room_wh[1], self._centre[1]),
            )
        # on whole device pixels, or every edge would be blurred
        return Placement(
            placed.scale, round(placed.x0 * ratio) / ratio, round(placed.y0 * ratio) / ratio
        )

    def reset(self, zoom: float | None = None) -> None:
        """Fit, or this zoom, centred."""
        self.zoom, self._centre = zoom, (0.5, 0.5)

    def zoom_by(
        self,
        factor: float,
        *,
        at: tuple[float, float],
        frame_wh_px: tuple[int, int],
        room_wh: tuple[int, int],
        ratio: float,
    ) -> None:
        """Larger or smaller; the frame's point at this place of the view stays there."""
        before = self.place(frame_wh_px, room_wh, ratio)
        smallest = min(1.0, fit(frame_wh_px, room_wh).scale * ratio)
        self.zoom = min(MAX_ZOOM, max(smallest, before.scale * ratio * factor))
        x, y = before.to_frame(*at)
        scale = self.zoom / ratio
        self._look_at(
            (x * scale - at[0] + room_wh[0] / 2) / (frame_wh_px[0] * scale),
            (y * scale - at[1] + room_wh[1] / 2) / (frame_wh_px[1] * scale),
        )

    def pan(
        self,
        dx: float,
        dy: float,
        *,
        frame_wh_px: tuple[int, int],
        room_wh: tuple[int, int],
        ratio: float,
    ) -> None:
        """Move the frame by so many logical pixels."""
        placed = self.place(frame_wh_px, room_wh, ratio)
        if self.zoom is None:
            self.zoom = placed.scale * ratio
        width, height = frame_wh_px[0] * placed.scale, frame_wh_px[1] * placed.scale
        self._look_at(
            (room_wh[0] / 2 - placed.x0 - dx) / width, (room_wh[1] / 2 - placed.y0 - dy) / height
        )

    def _look_at(self, x: float, y: float) -> None:
        self._centre = min(1.0, max(0.0, x)), min(1.0, max(0.0, y))


def _offset(size: float, room: float, centre: float) -> float:
    """Where the frame begins: centred where it is smaller than the room, else without a gap."""
    if size <= room:
        return (room - size) / 2
    return min(0.0, max(room - size, room / 2 - centre * size))


def visible_part(
    placed: Placement, frame_wh_px: tuple[int, int], room_wh: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): the frame's pixels that are in view, right and bottom exclusive."""
    left, top = placed.to_frame(0, 0)
    right, bottom = placed.to_frame(*room_wh)
    x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
    x1 = min(frame_wh_px[0], max(x0 + 1, math.ceil(right)))
    y1 = min(frame_wh_px[1], max(y0 + 1, math.ceil(bottom)))
    return min(x0, x1 - 1), min(y0, y1 - 1), x1, y1
