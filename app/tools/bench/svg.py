"""How are figures drawn? Small SVG plots without any script, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 720
ROW = 26
GAP = 10  # between a label and what it labels
LETTER = 7.0  # px, on average, of the page's 12 px


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: from ``start`` to ``value``, with a whisker between two values, and ticks."""

    label: str
    value: float
    text: str
    start: float = 0.0
    whisker: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """A line over evenly spaced points."""

    label: str
    values: Sequence[float]
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Roof:
    """Arithmetic and memory ceilings (G operations/s, GB/s), and points (name, intensity, G/s)."""

    gops: float
    gb_s: float
    points: Sequence[tuple[str, float, float]] = field(default_factory=tuple)


def bars(rows: Sequence[Bar], *, unit: str) -> str:
    """Horizontal bars on a common axis from 0."""
    left = min(420.0, max(len(row.label) for row in rows) * LETTER + GAP)
    right = max(len(row.text) for row in rows) * LETTER + 2 * GAP
    most = max(max(row.value, *(row.whisker or ()), *row.ticks, 0.0) for row in rows) or 1.0
    scale = (WIDTH - left - right) / most
    height = len(rows) * ROW + 30
    out = []
    for tick in _ticks(most):
        x = left + tick * scale
        out.append(f'<path class="grid" d="M{x:.1f} 0V{height - 30}"/>')
        out.append(_text(x, height - 14, f"{tick:g}", "middle", "axis"))
    out.append(_text(left, height - 1, unit, "start", "axis"))
    for i, row in enumerate(rows):
        y = i * ROW + 4
        middle = y + ROW / 2 - 4
        x, wide = left + row.start * scale, max(1.0, (row.value - row.start) * scale)
        out.append(_text(left - GAP, middle + 4, row.label, "end"))
        out.append(
            f'<rect class="bar" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 8}" rx="2"/>'
        )
        end = row.value
        if row.whisker is not None:
            low, high = row.whisker
            end = max(end, high)
            a, b = left + low * scale, left + high * scale
            out.append(f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}"/>')
            out.append(
                f'<path class="whisker" d="M{a:.1f} {middle - 4}v8M{b:.1f} {middle - 4}v8"/>'
            )
        for tick in row.ticks:
            at = left + tick * scale
            out.append(f'<path class="tick" d="M{at:.1f} {y - 2}v{ROW - 4}"/>')
            end = max(end, tick)
        out.append(_text(left + end * scale + GAP, middle + 4, row.text, "start", "value"))
    return _svg(height, out)


def lines(series: Sequence[Series], *, unit: str, across: str) -> str:
    """Lines over a common time; the legend is above."""
    left, top, bottom = 50.0, 24.0, 210.0
    most = max((max(each.values) for each in series if len(each.values)), default=1.0) or 1.0
    out = []
    for tick in _ticks(most):
        y = bottom - tick / most * (bottom - top)
        out.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH}"/>')
        out.append(_text(left - GAP, y + 4, f"{tick:g}", "end", "axis"))
    x = left
    for i, each in enumerate(series):
        step = (WIDTH - left) / max(1, len(each.values) - 1)
        points = " ".join(
            f"{left + j * step:.1f},{bottom - v / most * (bottom - top):.1f}"
            for j, v in enumerate(each.values)
        )
        out.append(f'<polyline class="line c{i}{" thin" * each.thin}" points="{points}"/>')
        out.append(f'<path class="line c{i}{" thin" * each.thin}" d="M{x:.0f} 10h16"/>')
        out.append(_text(x + 22, 14, each.label))
        x += 22 + len(each.label) * LETTER + 3 * GAP
    out.append(_text(0, 14, unit, "start", "axis"))
    out.append(_text(WIDTH, bottom + 18, across, "end", "axis"))
    return _svg(int(bottom) + 24, out)


def roof(plot: Roof) -> str:
    """Operations a second over operations a byte, both logarithmic, under the two ceilings."""
    left, top, bottom = 70.0, 14.0, 270.0
    intensities = [x for _, x, _ in plot.points] + [plot.gops / plot.gb_s]
    speeds = [y for _, _, y in plot.points] + [plot.gops]
    x_low, x_high = _decades(min(intensities) / 3, max(intensities) * 3)
    y_low, y_high = _decades(min(speeds) / 2, max(speeds) * 1.5)

    def at(intensity: float, gops: float) -> tuple[float, float]:
        across = (math.log10(intensity) - x_low) / (x_high - x_low)
        up = (math.log10(gops) - y_low) / (y_high - y_low)
        return left + across * (WIDTH - 2 * GAP - left), bottom - up * (bottom - top)

    out = []
    for decade in range(x_low, x_high + 1):
        x, _ = at(10.0**decade, plot.gops)
        out.append(f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>')
        out.append(_text(x, bottom + 16, f"{10.0**decade:g}", "middle", "axis"))
    for decade in range(y_low, y_high + 1):
        _, y = at(1.0, 10.0**decade)
        out.append(f'<path class="grid" d="M{left} {y:.1f}H{WIDTH}"/>')
        out.append(_text(left - GAP, y + 4, f"{10.0**decade:g}", "end", "axis"))
    start = max(10.0**x_low, 10.0**y_low / plot.gb_s)
    corners = [
        (start, start * plot.gb_s),
        (plot.gops / plot.gb_s, plot.gops),
        (10.0**x_high, plot.gops),
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*corner) for corner in corners))
    out.append(f'<polyline class="line c0" points="{path}"/>')
    for name, intensity, gops in plot.points:
        x, y = at(intensity, gops)
        out.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        beyond = x > WIDTH - 120
        side, anchor = (-GAP, "end") if beyond else (GAP, "start")
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


def _ticks(most: float) -> list[float]:
    """Four to ten round values from 0 to ``most``."""
    step = 10.0 ** math.floor(math.log10(most / 4))
    step = next(step * k for k in (1, 2, 5, 10) if most / (step * k) <= 8)
    return [round(i * step, 10) for i in range(int(most / step) + 1)]


def _decades(low: float, high: float) -> tuple[int, int]:
    return math.floor(math.log10(low)), math.ceil(math.log10(high))
