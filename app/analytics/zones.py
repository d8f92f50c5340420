"""Zones and lines in the picture: who is inside, for how long, and who crosses in which direction.

A track is where its anchor point is. Both have hysteresis in space, 5 % of the box's height, so
that a box that jitters on a border neither comes nor goes; zones have inertia in time on top, so
that a box that vanishes or steps out for a moment does not count twice. What reaches the edge of
the frame goes on beyond it, as boxes end at the edge.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from .tables import one_of

Floats = NDArray[np.float64]
Point = tuple[float, float]
Anchor = Literal["bottom", "centre", "top"]

HYSTERESIS = 0.05  # of the box's height
BEYOND = 10.0  # lengths by which a line that ends at the edge is continued
MOST_POINTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """What zones, lines and masks have in common. Points are parts of the frame, or pixels."""

    name: str
    points: tuple[tuple[float, float], ...]
    units: Literal["frame", "pixels"] = "frame"
    anchor: Anchor = "bottom"
    labels: tuple[str, ...] = ()  # none named: all
    min_score: float = 0.0
    min_size: tuple[float, float] = (0.0, 0.0)  # width and height of a box, in ``units``
    colour: str = ""  # "#rrggbb" where it is drawn; empty: white

    def check(self, where: str, *, least: int, labels: Sequence[str]) -> None:
        """Raise ConfigError for what cannot be meant."""
        most = 2 if isinstance(self, Line) else MOST_POINTS
        if not self.name:
            raise ConfigError(f"name in {where} is empty; events and topics need one")
        if not least <= len(self.points) <= most or any(len(p) != 2 for p in self.points):
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise ConfigError(f"points in {where} must be {wanted} pairs [x, y]")
        flat = [value for point in self.points for value in point]
        if not np.isfinite(flat).all() or min(flat) < 0:
            raise ConfigError(f"points in {where} must be finite and not negative")
        if self.units == "frame" and max(flat) > 1:
            raise ConfigError(
                f'points in {where} are parts of the frame, 0 to 1; for pixels add units = "pixels"'
            )
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"min_score in {where} is {self.min_score}; it must be 0 to 1")
        if self.colour and not re.fullmatch("#[0-9a-fA-F]{6}", self.colour):
            raise ConfigError(f'colour in {where} is {self.colour!r}; write for example "#ff9f1c"')
        for label in self.labels:
            one_of(label, labels, f"labels in {where}")
        x, y = np.array(self.points).T
        if least > 2 and abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) < 1e-9:
            raise ConfigError(f"points in {where} lie on one line and enclose nothing")
        if least == 2 and self.points[0] == self.points[1]:
            raise ConfigError(f"points in {where} are the same; a line needs two")


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone(_Shape):
    """A polygon that tracks enter and leave.

    ``dwell_s``: after how long inside a "dwell" is told, each once a stay. ``count``: numbers of
    tracks inside that are told when they are reached from below ("up") and left again ("down").
    ``distance_m``: the real way from entering to leaving, from which a speed is told.
    """

    inertia_s: float = 1.5
    dwell_s: tuple[float, ...] = ()
    count: tuple[int, ...] = ()
    distance_m: float | None = None

    def check_zone(self, where: str, labels: Sequence[str]) -> None:
        """Raise ConfigError for what cannot be meant."""
        self.check(where, least=3, labels=labels)
        if not 0 <= self.inertia_s <= 3600:
            raise ConfigError(f"inertia_s in {where} is {self.inertia_s}; it must be 0 to 3600")
        if any(s <= 0 for s in self.dwell_s) or any(n < 1 for n in self.count):
            raise ConfigError(f"dwell_s and count in {where} must be above 0")
        if self.distance_m is not None and self.distance_m <= 0:
            raise ConfigError(f"distance_m in {where} must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line(_Shape):
    """A directed segment from the first point to the second.

    "in" is a crossing from its left-hand to its right-hand side, as one looks along it in the
    picture: along a line drawn upwards, "in" is from left to right.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask(_Shape):
    """A polygon outside of which, or inside of which (``exclude``), nothing is looked at."""

    exclude: bool = True


class Seen(NamedTuple):
    """The tracked detections of one frame, parallel arrays."""

    ids: list[int]
    xyxy: Floats  # (N, 4) source pixels
    scores: Floats
    class_ids: NDArray[Any]
    first: Floats  # (N, 4) xyxy of the first observation of the track
    time_ns: int


class Happening(NamedTuple):
    """What a zone or a line tells of a track (0: of all tracks)."""

    type: Literal["enter", "leave", "dwell", "cross", "count"]
    shape: str
    track_id: int
    direction: str | None = None
    duration_s: float | None = None
    members: int | None = None  # of a count
    speed_kmh: float | None = None


class Placed:
    """A shape in pixels of the frame, and which boxes it is about."""

    def __init__(self, shape: _Shape, labels: Sequence[str]) -> None:
        self.shape = shape
        self._wanted = np.array([not shape.labels or x in shape.labels for x in labels], bool)
        self._wh: tuple[int, int] = (0, 0)
        self.points = self.drawn = np.zeros((0, 2))
        self._min_wh = self._size = np.zeros(2)
        self._walls = np.zeros(0, bool)

    def place(self, wh_px: tuple[int, int]) -> None:
        """Scale to a frame of this size, and continue beyond its edges what reaches them."""
        if wh_px == self._wh:
            return
        self._wh = wh_px
        scale = np.array(wh_px if self.shape.units == "frame" else (1.0, 1.0))
        points = np.minimum(np.array(self.shape.points) * scale, wh_px)
        self._min_wh = np.array(self.shape.min_size) * scale
        self.points, self.drawn, self._size = points, points, np.array(wh_px, np.float64)
        if len(points) == 2:  # a line that ends at an edge goes on in its own direction
            at_edge = ((points <= 0) | (points >= self._size)).any(1)
            way = points[1] - points[0]
            self.points = points + np.array((-BEYOND * way, BEYOND * way)) * at_edge[:, None]
        following = points[_following(len(points))]
        along_edge = (points <= 0) & (following <= 0)
        along_edge |= (points >= self._size) & (following >= self._size)
        self._walls = ~along_edge.any(1)

    def depth(self, points: Floats) -> Floats:
        """(N,) distances in pixels from the border, inside positive; the frame's edge is none."""
        return depth(self.points, np.clip(points, 0.5, self._size - 0.5), self._walls)

    def about(
        self, xyxy: Floats, scores: NDArray[Any], class_ids: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """(N,) True for the boxes that count here by class, score and size."""
        fit = scores >= self.shape.min_score
        if self.shape.labels:
            known = class_ids < len(self._wanted)
            fit &= known & self._wanted[np.where(known, class_ids, 0)]
        if any(self.shape.min_size):
            fit &= (xyxy[:, 2:] - xyxy[:, :2] >= self._min_wh).all(1)
        return fit

    def anchors(self, xyxy: Floats) -> Floats:
        """(N, 2) anchor points of boxes (N, 4)."""
        y = {"bottom": xyxy[:, 3], "top": xyxy[:, 1], "centre": (xyxy[:, 1] + xyxy[:, 3]) / 2}
        return np.stack(((xyxy[:, 0] + xyxy[:, 2]) / 2, y[self.shape.anchor]), axis=1)


def depth(polygon: Floats, points: Floats, walls: NDArray[np.bool_]) -> Floats:
    """(N,) distances of points (N, 2) from the border of a polygon (E, 2), inside positive.

    Inside is by the even-odd rule; the distance is from the edges that are ``walls`` (E,).
    """
    ax, ay = polygon.T
    bx, by = polygon[_following(len(polygon))].T
    ex, ey = bx - ax, by - ay
    x, y = points[:, :1], points[:, 1:]
    ox, oy = x - ax, y - ay  # (N, E)
    along = (ox * ex + oy * ey) / np.maximum(ex * ex + ey * ey, 1e-12)
    along = np.minimum(np.maximum(along, 0), 1)
    nx, ny = ox - along * ex, oy - along * ey
    squares = np.where(walls, nx * nx + ny * ny, np.inf)
    distance = np.sqrt(np.minimum.reduce(squares, axis=1))
    straddles = (ay > y) != (by > y)
    right = ox < oy * (ex / np.where(ey == 0, 1.0, ey))
    inside = np.logical_xor.reduce(straddles & right, axis=1)
    return np.asarray(np.where(inside, distance, -distance))


@dataclass(slots=True)
class _Stay:
    """A track's time in a zone."""

    since_ns: int
    last_ns: int
    entered: bool = False
    dwelt: int = 0  # of the zone's dwell_s, told
    came_ns: float | None = None  # when the border was crossed, between two observations
    went_ns: float | None = None
    last_depth: float = 0.0


class ZoneMonitor(Placed):
    """Follows the tracks of one source through one zone."""

    def __init__(self, zone: Zone, labels: Sequence[str]) -> None:
        super().__init__(zone, labels)
        self.zone = zone
        self._dwell_s = sorted(zone.dwell_s)
        self._stays: dict[int, _Stay] = {}
        self._outside: dict[int, tuple[int, float]] = {}  # time and depth, for the speed
        self._inside = 0

    def inside(self) -> set[int]:
        """The tracks that have entered and not left."""
        return {track_id for track_id, stay in self._stays.items() if stay.entered}

    def update(self, seen: Seen) -> list[Happening]:
        """What the observations of a frame change."""
        told: list[Happening] = []
        now = seen.time_ns
        inertia_ns = self.zone.inertia_s * 1e9
        if seen.ids:
            deep = self.depth(self.anchors(seen.xyxy)).tolist()
            margins = (HYSTERESIS * (seen.xyxy[:, 3] - seen.xyxy[:, 1])).tolist()
            for i in self.about(seen.xyxy, seen.scores, seen.class_ids).nonzero()[0].tolist():
                self._observe(seen.ids[i], deep[i], margins[i], now, told)
        for track_id, stay in list(self._stays.items()):
            lasted_s = (stay.last_ns - stay.since_ns) / 1e9
            while stay.entered and stay.dwelt < len(self._dwell_s):
                if lasted_s < self._dwell_s[stay.dwelt]:
                    break
                told.append(self._happening("dwell", track_id, duration_s=lasted_s))
                stay.dwelt += 1
            if now - stay.last_ns > inertia_ns:
                self._leave(track_id, told)
        inside = len(self.inside())
        for limit in self.zone.count:
            if (self._inside >= limit) != (inside >= limit):
                direction = "up" if inside >= limit else "down"
                told.append(self._happening("count", 0, direction=direction, members=inside))
        self._inside = inside
        return told

    def end(self) -> list[Happening]:
        told: list[Happening] = []
        for track_id in list(self._stays):
            self._leave(track_id, told)
        self._outside.clear()
        self._inside = 0
        return told

    def forget(self, track_id: int) -> list[Happening]:
        self._outside.pop(track_id, None)
        told: list[Happening] = []
        if track_id in self._stays:
            self._leave(track_id, told)
        return told

    def _observe(
        self, track_id: int, deep: float, margin: float, now: int, told: list[Happening]
    ) -> None:
        stay = self._stays.get(track_id)
        if stay is None:
            if deep < 0:
                if self.zone.distance_m:
                    self._outside[track_id] = now, deep
                return
            stay = self._stays[track_id] = _Stay(now, now)
            before = self._outside.pop(track_id, None)
            if before:
                stay.came_ns = _between(before[0], now, before[1], deep)
        if stay.entered:
            if deep > -margin:
                stay.last_ns, stay.went_ns = now, None
            elif stay.went_ns is None and self.zone.distance_m:
                stay.went_ns = _between(stay.last_ns, now, stay.last_depth, deep)
        elif deep >= 0:
            stay.last_ns = now
            if deep >= margin or now - stay.since_ns >= self.zone.inertia_s * 1e9:
                stay.entered = True
                told.append(self._happening("enter", track_id))
        elif deep < -margin:
            del self._stays[track_id]
        stay.last_depth = deep

    def _leave(self, track_id: int, told: list[Happening]) -> None:
        stay = self._stays.pop(track_id)
        if stay.entered:
            lasted_s = (stay.last_ns - stay.since_ns) / 1e9
            speed = None
            if self.zone.distance_m and stay.came_ns and stay.went_ns:
                through_s = max(stay.went_ns - stay.came_ns, 1.0) / 1e9
                speed = self.zone.distance_m / through_s * 3.6
            told.append(self._happening("leave", track_id, duration_s=lasted_s, speed_kmh=speed))

    def _happening(self, kind: Any, track_id: int, **more: Any) -> Happening:
        return Happening(kind, self.zone.name, track_id, **more)


class LineMonitor(Placed):
    """Counts the tracks of one source that cross one line.

    The crossing is tested on the way between two observations that are clear of the line, so that
    frames between them may be lost. ``crossed`` counts by direction and class id. Of tracks up to
    ``after_id``, which are older than the line, nothing counts that was before it was drawn.
    """

    def __init__(self, line: Line, labels: Sequence[str], *, after_id: int = 0) -> None:
        super().__init__(line, labels)
        self.line, self._after_id = line, after_id
        self._clear: dict[int, tuple[float, float, float]] = {}  # x, y and side at the last clear
        self.crossed: Counter[tuple[str, int]] = Counter()

    def update(self, seen: Seen) -> list[Happening]:
        """The crossings since the last observations."""
        fit = self.about(seen.xyxy, seen.scores, seen.class_ids).nonzero()[0].tolist()
        if not fit:
            return []
        told = []
        margins = (HYSTERESIS * (seen.xyxy[:, 3] - seen.xyxy[:, 1])).tolist()
        anchors = self.anchors(seen.xyxy)
        sides, points = self._side(anchors).tolist(), anchors.tolist()
        for i in fit:
            track_id, side = seen.ids[i], sides[i]
            before = self._clear.get(track_id)
            if before is None:
                older = track_id <= self._after_id
                start = self.anchors((seen.xyxy if older else seen.first)[i : i + 1])
                before = (*start[0].tolist(), float(self._side(start)[0]))
                if abs(before[2]) >= margins[i]:
                    self._clear[track_id] = before
                else:
                    before = None
            if abs(side) < margins[i]:
                continue
            now = (points[i][0], points[i][1], side)
            if before and before[2] * side < 0 and self._meets(before, now):
                direction = "in" if side > 0 else "out"
                self.crossed[direction, int(seen.class_ids[i])] += 1
                told.append(Happening("cross", self.line.name, track_id, direction=direction))
            self._clear[track_id] = now
        return told

    def forget(self, track_id: int) -> list[Happening]:
        self._clear.pop(track_id, None)
        return []

    def end(self) -> None:
        self._clear.clear()

    def _side(self, points: Floats) -> Floats:
        """(N,) distances in pixels from the line, positive on its right-hand side."""
        a, b = self.points
        along = (b - a) / np.sqrt(((b - a) ** 2).sum())
        return np.asarray(along[0] * (points[:, 1] - a[1]) - along[1] * (points[:, 0] - a[0]))

    def _meets(self, before: tuple[float, ...], now: tuple[float, ...]) -> bool:
        """True where the way goes through the segment, not past its ends."""
        part = before[2] / (before[2] - now[2])
        a, b = self.points
        at = np.array([before[k] + part * (now[k] - before[k]) for k in (0, 1)])
        return 0 <= float((at - a) @ (b - a)) <= float((b - a) @ (b - a))


@cache
def _following(count: int) -> NDArray[np.int64]:
    return np.roll(np.arange(count), -1)


def outside_masks(
    masks: Sequence[Placed], xyxy: Floats, scores: NDArray[Any], class_ids: NDArray[Any]
) -> NDArray[np.bool_]:
    """(N,) True for the boxes that no mask hides.

    A box goes where its anchor is in an exclude mask, or where there are include masks for its
    class and it is in none of them.
    """
    kept = np.ones(len(xyxy), bool)
    included, limited = np.zeros(len(xyxy), bool), np.zeros(len(xyxy), bool)
    for placed in masks:
        about = placed.about(xyxy, scores, class_ids)
        inside = about & (placed.depth(placed.anchors(xyxy)) >= 0)
        if isinstance(placed.shape, Mask) and placed.shape.exclude:
            kept &= ~inside
        else:
            included |= inside
            limited |= about
    return kept & (included | ~limited)


def _between(t0: int, t1: int, d0: float, d1: float) -> float:
    """When the depth was 0 between two observations."""
    return t0 + (t1 - t0) * abs(d0) / max(abs(d0) + abs(d1), 1e-9)
