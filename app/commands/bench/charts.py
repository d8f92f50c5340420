"""Charts of a report as SVG: bars, lines, and the roof of a processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
ROW = 26
GAP = 10  # between a label and what it labels
LETTER = 7.0  # px, on average, of the page's 12 px


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: from ``start`` to ``value``, with ``marks``, rising values joined by a line."""

    label: str
    value: float
    text: str
    start: float = 0.0
    marks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A line over evenly spaced points."""

    label: str
    values: Sequence[float]
    thin: bool = False


def bars(rows: Sequence[Bar], *, unit: str) -> str:
    """Horizontal bars on a common axis from 0."""
    left = min(420.0, max(len(row.label) for row in rows) * LETTER + GAP)
    right = max(len(row.text) for row in rows) * LETTER + 2 * GAP
    ends = [max((row.value, *row.marks)) for row in rows]
    most = max(*ends, 0.0) or 1.0
    scale = (WIDTH - left - right) / most
    height = len(rows) * ROW
    out = [_upright(left + tick * scale, tick, (0, height)) for tick in _ticks(most)]
    out.append(_text(left, height + 29, unit, "start", "axis"))
    for i, (row, end) in enumerate(zip(rows, ends, strict=True)):
        y = i * ROW + 4
        middle = y + ROW / 2 - 4
        x, wide = left + row.start * scale, max(1.0, (row.value - row.start) * scale)
        out.append(_text(left - GAP, middle + 4, row.label, "end"))
        out.append(
            f'<rect class="bar" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 8}" rx="2"/>'
        )
        if row.marks:
            ticks = "".join(f"M{left + v * scale:.1f} {middle - 6}v12" for v in row.marks)
            a, b = (left + v * scale for v in (row.marks[0], row.marks[-1]))
            out.append(f'<path class="mark" d="M{a:.1f} {middle}H{b:.1f}{ticks}"/>')
        out.append(_text(left + end * scale + GAP, middle + 4, row.text, "start", "value"))
    return _svg(height + 30, out)


def lines(series: Sequence[Series], *, unit: str, across: str) -> str:
    """Lines over a common time; the legend is above."""
    left, top, bottom = 50.0, 24.0, 210.0
    most = max((max(each.values) for each in series if len(each.values)), default=1.0) or 1.0
    rise = (bottom - top) / most
    out = [_level(bottom - tick * rise, tick, left) for tick in _ticks(most)]
    x = left
    for i, each in enumerate(series):
        step = (WIDTH - left) / max(1, len(each.values) - 1)
        points = " ".join(
            f"{left + j * step:.1f},{bottom - v * rise:.1f}" for j, v in enumerate(each.values)
        )
        style = f"line c{i}{' thin' * each.thin}"
        out.append(f'<polyline class="{style}" points="{points}"/>')
        out.append(f'<path class="{style}" d="M{x:.0f} 10h16"/>')
        out.append(_text(x + 22, 14, each.label))
        x += 22 + len(each.label) * LETTER + 3 * GAP
    out.append(_text(0, 14, unit, "start", "axis"))
    out.append(_text(WIDTH, bottom + 18, across, "end", "axis"))
    return _svg(int(bottom) + 24, out)


def roof(gops: float, gb_s: float, points: Sequence[tuple[str, float, float]]) -> str:
    """Points (name, operations a byte, G operations/s) under the ceilings of arithmetic and memory.

    Both axes are logarithmic; ``gops`` in G operations/s, ``gb_s`` in GB/s.
    """
    left, top, bottom = 70.0, 14.0, 270.0
    intensities = [x for _, x, _ in points] + [gops / gb_s]
    speeds = [y for _, _, y in points] + [gops]
    x_low, x_high = _decades(min(intensities) / 3, max(intensities) * 3)
    y_low, y_high = _decades(min(speeds) / 2, max(speeds) * 1.5)

    def at(intensity: float, speed: float) -> tuple[float, float]:
        across = (math.log10(intensity) - x_low) / (x_high - x_low)
        up = (math.log10(speed) - y_low) / (y_high - y_low)
        return left + across * (WIDTH - 2 * GAP - left), bottom - up * (bottom - top)

    decades = [10.0**n for n in range(x_low, x_high + 1)]
    out = [_upright(at(each, gops)[0], each, (top, bottom)) for each in decades]
    out += [
        _level(at(1.0, each)[1], each, left) for each in (10.0**n for n in range(y_low, y_high + 1))
    ]
    start = max(decades[0], 10.0**y_low / gb_s)
    corners = [(start, start * gb_s), (gops / gb_s, gops), (decades[-1], gops)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*corner) for corner in corners))
    out.append(f'<polyline class="line c0" points="{path}"/>')
    for name, intensity, speed in points:
        x, y = at(intensity, speed)
        out.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        side, anchor = (-GAP, "end") if x > WIDTH - 120 else (GAP, "start")
        out.append(_text(x + side, y + 4, name, anchor, "value"))
    out.append(_text(WIDTH, bottom + 32, "operations a byte", "end", "axis"))
    out.append(_text(left, bottom + 32, "G operations a second, upwards", "start", "axis"))
    return _svg(int(bottom) + 38, out)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "label") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _upright(x: float, value: float, span: tuple[float, float]) -> str:
    """A line of the grid, and its value below."""
    path = f'<path class="grid" d="M{x:.1f} {span[0]}V{span[1]}"/>'
    return path + _text(x, span[1] + 16, f"{value:g}", "middle", "axis")


def _level(y: float, value: float, left: float) -> str:
    """A line of the grid, and its value at the left."""
    path = f'<path class="grid" d="M{left} {y:.1f}H{WIDTH}"/>'
    return path + _text(left - GAP, y + 4, f"{value:g}", "end", "axis")


def _ticks(most: float) -> list[float]:
    """Four to ten round values from 0 to ``most``."""
    step = 10.0 ** math.floor(math.log10(most / 4))
    step = next(step * k for k in (1, 2, 5, 10) if most / (step * k) <= 8)
    return [round(i * step, 10) for i in range(int(most / step) + 1)]


def _decades(low: float, high: float) -> tuple[int, int]:
    return math.floor(math.log10(low)), math.ceil(math.log10(high))
