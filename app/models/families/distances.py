"""Heads that give scores and four distances a cell, undecoded: NanoDet and its kin.

NanoDet, NanoDet-Plus, PicoDet and YOLOv8's bare heads give each distance as a distribution
(generalised focal loss), RTMDet and SCRFD as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import base

MAX_REG = 64
MIDDLE, CORNER, PIXEL = "middle", "corner", "pixel"
Table = Callable[[base.Outputs], NDArray[Any]]
Shape = tuple[int, ...]


class Part(NamedTuple):
    """The rows of one level, or of several that one output holds, as tables (n, width)."""

    start: int
    scores: Table
    sides: Table
    points: Table | None


class Distances:
    """Scores (n, C), distances (n, 4 (reg_max + 1)) and perhaps keypoints (n, 2K) of each level.

    Outputs are rows ([1, n, width], SCRFD's [n, width]) or planes ([1, width, h, w]), by kind or by
    level, or one with all levels and both kinds. With ``reg_max`` a distance is the expectation
    over 0..reg_max of a softmax, else a number; in strides, or in pixels with ``pixels``. The four
    are left, top, right, bottom from ``centre``: the cell's "middle" (PicoDet, YOLOv8), "corner"
    (NanoDet-Plus, RTMDet, SCRFD) or its middle less half a "pixel" (NanoDet). ``anchors``: rows a
    cell. ``logits``: scores are before the sigmoid. Sources: RangiLyu/nanodet ``gfl_head``,
    PaddleDetection ``pico_head``, mmdetection ``rtmdet_head``, insightface ``scrfd``.
    """

    def __init__(self, head: base.Head) -> None:
        p = FAMILY.complete(head.parameters)
        self._bins = np.arange(p["reg_max"] + 1, dtype=np.float32)
        self._logits, self._pixels = p["logits"], p["pixels"]
        strides, anchors = p["strides"], p["anchors"]
        counts = [n * anchors for n in base.cell_counts(head.input_wh, strides)]
        widths = [head.classes, 4 * len(self._bins)]
        parts = _parts(head.shapes, counts, widths)
        if parts is None:
            told = f"{len(strides)}x [1, n, {widths[0]}] and [1, n, {widths[1]}]"
            raise base.misfit(head, "distances", told)
        self._parts = parts
        positions, steps = base.cells(head.input_wh, strides)
        shift = {MIDDLE: 0.5 * steps, CORNER: 0 * steps, PIXEL: 0.5 * (steps - 1)}[p["centre"]]
        centres = positions * steps + shift.astype(np.float32)
        self._centres = np.repeat(centres, anchors, axis=0)
        self._steps = np.repeat(np.ones_like(steps) if self._pixels else steps, anchors, axis=0)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        least = base.logit(score) if self._logits else score
        index, class_ids, scores, raw, points = [], [], [], [], []
        for part in self._parts:
            table = part.scores(outputs)
            peaks = table.max(axis=1)
            if not self._logits:
                base.refuse_negative(peaks)
            rows = (peaks >= least).nonzero()[0]
            if len(rows):
                best, best_scores = base.best_class(table[rows])
                index.append(rows + part.start)
                class_ids.append(best)
                scores.append(best_scores)
                raw.append(part.sides(outputs)[rows])
                if part.points is not None:
                    points.append(part.points(outputs)[rows])
        if not index:
            return base.NOTHING
        kept = np.concatenate(index)
        centre, step = self._centres[kept], self._steps[kept]
        distance = self._distances(np.concatenate(raw)) * step
        xyxy = np.concatenate((centre - distance[:, :2], centre + distance[:, 2:]), axis=1)
        found = np.concatenate(scores)
        if self._logits:
            found = base.sigmoid(found)
        keypoints = None
        if points:
            offsets = np.concatenate(points).reshape(len(kept), -1, 2)
            keypoints = centre[:, None] + offsets * step[:, None]
        return base.Candidates(xyxy, found, np.concatenate(class_ids), keypoints)

    def _distances(self, raw: NDArray[Any]) -> NDArray[Any]:
        if len(self._bins) == 1:
            return raw
        logits = raw.reshape(len(raw), 4, len(self._bins))
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        shares: NDArray[Any] = (weights @ self._bins) / weights.sum(axis=2)
        return shares


def _rows_of(shape: Shape) -> tuple[int, int, bool]:
    """Rows, width, and whether they are planes, of an output's shape; (0, 0, False) if neither."""
    if len(shape) == 4 and shape[0] == 1:
        return shape[2] * shape[3], shape[1], True
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2], False
    return (shape[0], shape[1], False) if len(shape) == 2 else (0, 0, False)


def _table(i: int, width: int, planes: bool, columns: slice | None = None) -> Table:
    if columns is not None:
        return lambda outputs: outputs[i].reshape(-1, width)[:, columns]
    if planes:
        return lambda outputs: outputs[i].reshape(width, -1).T
    return lambda outputs: outputs[i].reshape(-1, width)


def _parts(
    shapes: Sequence[Shape], counts: Sequence[int], widths: Sequence[int]
) -> list[Part] | None:
    """Which output holds what: ``counts`` rows a level, ``widths`` of scores and distances."""
    told = [_rows_of(tuple(shape)) for shape in shapes]
    if [t[:2] for t in told] == [(sum(counts), sum(widths))]:
        first, last = slice(0, widths[0]), slice(widths[0], None)
        width = sum(widths)
        return [Part(0, _table(0, width, False, first), _table(0, width, False, last), None)]
    parts, start = [], 0
    for count in counts:
        mine = [i for i, (n, _, _) in enumerate(told) if n == count]
        tables: list[Table] = []
        for width in widths:
            fits = [i for i in mine if told[i][1] == width]
            if not fits:
                return None
            mine.remove(fits[0])
            tables.append(_table(fits[0], *told[fits[0]][1:]))
        points = None
        if len(mine) == 1 and told[mine[0]][1] % 2 == 0:
            points = _table(mine[0], *told[mine[0]][1:])
        elif mine:
            return None
        parts.append(Part(start, tables[0], tables[1], points))
        start += count
    used = sum(2 + (part.points is not None) for part in parts)
    return parts if used == len(shapes) else None


# -- what is recognised ----------------------------------------------------------------------------

NANODET: base.InputDefaults = {
    "mean": (103.53, 116.28, 123.675),
    "std": (57.375, 57.12, 58.395),
    "pad": 0,
}
NANODET_PLUS: base.InputDefaults = {**NANODET, "resize": "stretch"}  # keep_ratio: False
SCRFD: base.InputDefaults = {
    "channels": "RGB",
    "mean": (127.5,) * 3,
    "std": (128.0,) * 3,
    "align": "top-left",
    "pad": 0,
}
PICODET: base.InputDefaults = {**base.IMAGENET, "resize": "stretch"}


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Iterator[base.Match]:
    """All of them, by the levels' sizes and the widths."""
    shapes = [tuple(n or 0 for n in shape) for shape in graph.shapes]
    told = [_rows_of(shape) for shape in shapes]
    planes = any(t[2] for t in told)
    if len(told) == 1 and not planes:
        found = base.levels(told[0][0], size_wh)
        if found and (classes := told[0][1] - 32) > 0:
            plus = len(found) > 3
            what, centre = ("NanoDet-Plus", CORNER) if plus else ("NanoDet, one output", PIXEL)
            image = NANODET_PLUS if plus else NANODET
            yield _match(classes, found, what, image, reg_max=7, centre=centre)
        return
    for strides in base.LEVELS:
        for anchors in (1, 2):
            counts = [n * anchors for n in base.cell_counts(size_wh, strides)]
            if {t[0] for t in told} != {*counts} or len(told) not in (
                2 * len(counts),
                3 * len(counts),
            ):
                continue
            widths = [t[1] for t in told if t[0] == counts[0]]
            for classes, sides in _widths(widths):
                if _parts(shapes, counts, [classes, sides]) is None:
                    continue
                yield from _forms(classes, sides // 4 - 1, [*strides], anchors, planes)


def _widths(widths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which of a level's widths may be classes and distances."""
    for i, sides in enumerate(widths):
        for j, classes in enumerate(widths):
            if i != j and sides % 4 == 0 and (sides == 4 or sides >= 32):
                yield classes, sides


def _forms(
    classes: int, reg_max: int, strides: list[int], anchors: int, planes: bool
) -> Iterator[base.Match]:
    if reg_max and not planes and anchors == 1:
        pico = len(strides) > 3
        what, centre = ("PicoDet", MIDDLE) if pico else ("NanoDet", PIXEL)
        how = PICODET if pico else NANODET
        yield _match(classes, strides, what, how, reg_max=reg_max, centre=centre)
    elif reg_max == 15 and planes and anchors == 1:
        yolo: base.InputDefaults = {"channels": "RGB", "scale": 1 / 255}
        for logits in (False, True):
            yield _match(classes, strides, "YOLOv8's bare heads", yolo,
                         reg_max=reg_max, centre=MIDDLE, logits=logits)  # fmt: skip
    elif not reg_max and planes and anchors == 1:
        image: base.InputDefaults = {**NANODET, "align": "top-left", "pad": 114}
        yield _match(classes, strides, "RTMDet", image,
                     reg_max=0, centre=CORNER, logits=True, pixels=True)  # fmt: skip
    elif not planes and anchors == 2 and classes == 1:
        yield _match(1, strides, "SCRFD", SCRFD, ("face",),
                     reg_max=0, centre=CORNER, anchors=2)  # fmt: skip


def _match(
    classes: int,
    strides: list[int],
    what: str,
    image: base.InputDefaults,
    labels: tuple[str, ...] = (),
    **more: Any,
) -> base.Match:
    return base.Match(classes, {"strides": strides, **more}, what, image, labels)


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    """Scores must be scores, and numbers that are distances not negative."""
    p = FAMILY.complete(match.parameters)
    arrays = [*outputs.values()]
    counts = [n * p["anchors"] for n in base.cell_counts(size_wh, p["strides"])]
    parts = _parts([a.shape for a in arrays], counts, [match.classes or 0, 4 * p["reg_max"] + 4])
    assert parts is not None
    scores = [part.scores(arrays) for part in parts]
    if p["logits"]:
        if min(float(s.min()) for s in scores) > -0.01:
            return "its scores are not negative anywhere, as logits are"
    elif why := base.doubt_scores(*scores):
        return why
    if not p["reg_max"]:
        sides = [part.sides(arrays) for part in parts]
        if min(float(s.min()) for s in sides) < -1:
            return "its distances are negative"
        far = max(float(s.max()) for s in sides)
        if p["pixels"] and far < 8 and any(s.any() for s in sides):
            return f"its distances are not in pixels: the longest is {far:.3g}"
    return None


def _reg_max(least: int) -> base.Parameter:
    return base.Parameter(
        "reg_max",
        default=7,
        values=f"a whole number from {least} to {MAX_REG}",
        allows=lambda value: type(value) is int and least <= value <= MAX_REG,
    )


FAMILY = base.Family(
    name="distances",
    outputs="a level [1, n, C] and [1, n, 4R], or planes",
    parameters=(
        base.STRIDES_PARAMETER,
        _reg_max(0),
        base.Parameter(
            "centre",
            default=PIXEL,
            values=f'"{PIXEL}", "{CORNER}" or "{MIDDLE}"',
            allows=lambda value: value in (PIXEL, CORNER, MIDDLE),
        ),
        base.Parameter("anchors", 1, "1 or 2", lambda v: type(v) is int and v in (1, 2)),
        base.flag("logits"),
        base.flag("pixels"),
    ),
    input={},
    score=0.35,
    any_size=True,
    recognise=lambda graph, size: [m for m in recognise(graph, size) if m.what != "NanoDet"],
    doubt=doubt,
    decoder=Distances,
)
NANODET_FAMILY = replace(
    FAMILY,
    name="nanodet",
    parameters=(base.STRIDES_PARAMETER, _reg_max(1)),
    outputs="3x [1, n, C] and 3x [1, n, 4R]",
    input=NANODET,
    recognise=lambda graph, size: [
        m._replace(input=None, parameters={k: m.parameters[k] for k in ("strides", "reg_max")})
        for m in recognise(graph, size)
        if m.what == "NanoDet"
    ],
)
