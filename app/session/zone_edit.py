"""Zones and lines while they are drawn and edited, with undo; knows neither Qt nor a browser.

The page follows the same rules in its own script (app/sinks/http/static/zones.js). Points are
parts of the frame, 0..1 in both directions; ``reach`` is how much of the frame the pointer may
miss by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from ..core.overlay import PALETTE

Point = tuple[float, float]
Kind = Literal["zone", "line"]
LEAST: dict[Kind, int] = {"zone": 3, "line": 2}
MOST: dict[Kind, int] = {"zone": 100, "line": 2}
MOST_UNDONE = 200
DIGITS = 4  # a tenth of a pixel of a frame 1000 wide


@dataclass(frozen=True, slots=True)
class Shape:
    """A zone or a line. ``row`` is its table in the configuration, with all that is not drawn."""

    kind: Kind
    name: str
    points: tuple[Point, ...]
    colour: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rgb(self) -> tuple[int, int, int]:
        value = int(self.colour[1:] or "ffffff", 16)
        return value >> 16, value >> 8 & 255, value & 255


class Grip(NamedTuple):
    """What is under the pointer: point ``point`` of shape ``shape``, or where one may be added."""

    shape: int
    point: int
    is_edge: bool = False


class ZoneEdit:
    """All shapes of a source, the one that is selected, the one that is drawn, and the way back.

    ``draft`` are the points of a shape that is being drawn. A drag from ``grab`` to ``drop`` is one
    step of undo.
    """

    def __init__(
        self, tables: Mapping[str, Sequence[Mapping[str, Any]]], wh_px: tuple[int, int]
    ) -> None:
        self._wh_px = wh_px
        self.shapes: tuple[Shape, ...] = tuple(
            self._shape(kind, row) for kind in LEAST for row in tables.get(kind, ())
        )
        self.selected: int | None = None
        self.draft: tuple[Kind, tuple[Point, ...]] | None = None
        self._grip: Grip | None = None
        self._before: tuple[Shape, ...] = self.shapes  # the drag
        self._done: list[tuple[Shape, ...]] = []
        self._undone: list[tuple[Shape, ...]] = []

    @property
    def shape(self) -> Shape | None:
        return None if self.selected is None else self.shapes[self.selected]

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    # -- drawing -----------------------------------------------------------------------------------

    def begin(self, kind: Kind) -> None:
        self.draft, self.selected = (kind, ()), None

    def cancel(self) -> bool:
        """Leave what is being drawn or dragged as it was before; False if nothing was."""
        busy = self.draft is not None or self._grip is not None
        if self._grip is not None:
            self.shapes, self._grip = self._before, None
        self.draft = None
        return busy

    def put(self, point: Point, reach: Point) -> bool:
        """The next point of the draft; True if that has ended it.

        A line ends with its second point, a polygon with a point on its first one.
        """
        if self.draft is None:
            return False
        kind, points = self.draft
        closes = len(points) >= LEAST["zone"] and _apart(points[0], point, reach) <= 1
        if kind == "zone" and closes:
            return self.finish()
        if not points or _apart(points[-1], point, reach) > 0.3:  # a double click is one point
            points = (*points, _inside(point))
            self.draft = kind, points
        return len(points) == MOST[kind] and self.finish()

    def finish(self) -> bool:
        """Close the draft; False while it has too few points."""
        if self.draft is None or len(self.draft[1]) < LEAST[self.draft[0]]:
            return False
        kind, points = self.draft
        red, green, blue = PALETTE[len(self.shapes) % len(PALETTE)]
        made = Shape(kind, self._free_name(kind), points, f"#{red:02x}{green:02x}{blue:02x}")
        self.draft = None
        self._change((*self.shapes, made), selected=len(self.shapes))
        return True

    # -- points ------------------------------------------------------------------------------------

    def find(self, at: Point, reach: Point) -> Grip | None:
        """The nearest point within reach, else the nearest middle of a polygon's edge.

        Of the selected shape first: it lies on top.
        """
        order = sorted(range(len(self.shapes)), key=lambda i: i != self.selected)
        for is_edge in (False, True):
            for i in order:
                points = self.shapes[i].points
                if is_edge and (i != self.selected or len(points) >= MOST[self.shapes[i].kind]):
                    continue
                places = edge_middles(points) if is_edge else points
                near = [(_apart(place, at, reach), k) for k, place in enumerate(places)]
                distance, k = min(near)
                if distance <= 1:
                    return Grip(i, k, is_edge)
        return None

    def select_at(self, at: Point, reach: Point) -> bool:
        """Select the shape whose border or inside is there; else none."""
        for i, shape in reversed(list(enumerate(self.shapes))):
            edges = zip(shape.points, _turned(shape.points), strict=True)
            near = any(_from_segment(at, a, b, reach) <= 1 for a, b in edges)
            if near or (shape.kind == "zone" and _is_in(at, shape.points)):
                self.selected = i
                return True
        self.selected = None
        return False

    def grab(self, grip: Grip) -> None:
        """Begin to drag it; at the middle of an edge that adds a point."""
        self.drop()  # a drag whose end was not told, such as a button let go outside of the window
        self._before, self.selected = self.shapes, grip.shape
        if grip.is_edge:
            shape = self.shapes[grip.shape]
            made = edge_middles(shape.points)[grip.point]
            at = grip.point + 1
            self._put_points(grip.shape, (*shape.points[:at], made, *shape.points[at:]))
            grip = Grip(grip.shape, at)
        self._grip = grip

    def drag(self, to: Point) -> None:
        """Move what is grabbed there."""
        if self._grip is not None:
            shape, point, _ = self._grip
            points = self.shapes[shape].points
            self._put_points(shape, (*points[:point], _inside(to), *points[point + 1 :]))

    def drop(self) -> bool:
        """End the drag; True if it has changed anything."""
        if self._grip is None:
            return False
        after, self.shapes, self._grip = self.shapes, self._before, None
        if after == self._before:
            return False
        self._change(after)
        return True

    def remove_point(self, grip: Grip) -> bool:
        """Take a point out of a polygon; False where too few would be left."""
        shape = self.shapes[grip.shape]
        if grip.is_edge or len(shape.points) <= LEAST[shape.kind]:
            return False
        points = (*shape.points[: grip.point], *shape.points[grip.point + 1 :])
        self._replace(grip.shape, replace(shape, points=points))
        return True

    # -- whole shapes ------------------------------------------------------------------------------

    def select(self, number: int | None) -> None:
        self.selected = number if number is None or 0 <= number < len(self.shapes) else None

    def rename(self, name: str) -> bool:
        """Another name for the selected one; False if it is empty or taken."""
        shape, name = self.shape, name.strip()
        taken = {each.name for each in self.shapes if shape and each.kind == shape.kind}
        if shape is None or self.selected is None or not name or name in taken:
            return False
        self._replace(self.selected, replace(shape, name=name))
        return True

    def recolour(self, colour: str) -> None:
        if self.shape is not None and self.selected is not None and colour != self.shape.colour:
            self._replace(self.selected, replace(self.shape, colour=colour))

    def turn(self) -> None:
        if self.shape is not None and self.selected is not None and self.shape.kind == "line":
            points = self.shape.points[::-1]
            self._replace(self.selected, replace(self.shape, points=points))

    def delete(self) -> bool:
        """Take the selected one away; False if none is."""
        if self.selected is None:
            return False
        number = self.selected
        self._change((*self.shapes[:number], *self.shapes[number + 1 :]), selected=None)
        return True

    def undo(self) -> bool:
        """One step back; of a draft its last point. False: there is none."""
        if self.draft is not None:
            kind, points = self.draft
            self.draft = (kind, points[:-1]) if points else None
            return True
        return self._step(self._done, self._undone)

    def redo(self) -> bool:
        """One step forward again; False: there is none."""
        return self._step(self._undone, self._done)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of the configuration: those that were not touched as they were."""
        made: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LEAST}
        for shape in self.shapes:
            made[shape.kind].append(self._row(shape))
        return made

    def _shape(self, kind: Kind, row: Mapping[str, Any]) -> Shape:
        wide, high = self._wh_px if row.get("units") == "pixels" else (1, 1)
        points = tuple(_inside((x / wide, y / high)) for x, y in row["points"])
        return Shape(kind, row["name"], points, row.get("colour", ""), dict(row))

    def _row(self, shape: Shape) -> dict[str, Any]:
        row = dict(shape.row)
        row["name"] = shape.name
        if shape.colour or "colour" in row:
            row["colour"] = shape.colour
        if not shape.row or self._shape(shape.kind, shape.row).points != shape.points:
            if row.pop("units", "frame") == "pixels" and "min_size" in row:
                sides = zip(row["min_size"], self._wh_px, strict=True)
                row["min_size"] = [round(side / length, DIGITS) for side, length in sides]
            row["points"] = [[x, y] for x, y in shape.points]
        return row

    def _free_name(self, kind: Kind) -> str:
        taken = {shape.name for shape in self.shapes}
        return next(n for n in (f"{kind} {i}" for i in range(1, 10_000)) if n not in taken)

    def _put_points(self, number: int, points: tuple[Point, ...]) -> None:
        shape = replace(self.shapes[number], points=points)
        self.shapes = (*self.shapes[:number], shape, *self.shapes[number + 1 :])

    def _replace(self, number: int, shape: Shape) -> None:
        shapes = (*self.shapes[:number], shape, *self.shapes[number + 1 :])
        self._change(shapes, selected=number)

    def _change(self, shapes: tuple[Shape, ...], selected: int | None = -1) -> None:
        self._done = [*self._done[-MOST_UNDONE + 1 :], self.shapes]
        self._undone.clear()
        self.shapes = shapes
        if selected != -1:
            self.selected = selected

    def _step(self, source: list[tuple[Shape, ...]], other: list[tuple[Shape, ...]]) -> bool:
        if not source:
            return False
        other.append(self.shapes)
        self.shapes = source.pop()
        self.select(self.selected)
        return True


def edge_middles(points: Sequence[Point]) -> list[Point]:
    pairs = zip(points, _turned(points), strict=True)
    return [((ax + bx) / 2, (ay + by) / 2) for (ax, ay), (bx, by) in pairs]


def _turned(points: Sequence[Point]) -> Sequence[Point]:
    return [*points[1:], points[0]]


def _inside(point: Point) -> Point:
    x, y = (round(min(1.0, max(0.0, value)), DIGITS) for value in point)
    return x, y


def _apart(a: Point, b: Point, reach: Point) -> float:
    """Their distance, 1 being within reach."""
    return math.hypot((a[0] - b[0]) / reach[0], (a[1] - b[1]) / reach[1])


def _from_segment(at: Point, a: Point, b: Point, reach: Point) -> float:
    ex, ey = (b[0] - a[0]) / reach[0], (b[1] - a[1]) / reach[1]
    ox, oy = (at[0] - a[0]) / reach[0], (at[1] - a[1]) / reach[1]
    along = min(1.0, max(0.0, (ox * ex + oy * ey) / max(ex * ex + ey * ey, 1e-12)))
    return math.hypot(ox - along * ex, oy - along * ey)


def _is_in(at: Point, polygon: Sequence[Point]) -> bool:
    """By the even-odd rule."""
    x, y = at
    inside = False
    for (ax, ay), (bx, by) in zip(polygon, _turned(polygon), strict=True):
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            inside = not inside
    return inside
