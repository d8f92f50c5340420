"""NanoDet, exported with its six separate outputs."""

from __future__ import annotations

import numpy as np

from . import base

MAX_REG = 64


class NanoDet:
    """Per level [1, n, C] class scores, then per level [1, n, 4 (reg_max + 1)] distances.

    A distance is the expectation over 0..reg_max of a softmax (generalised focal loss), times the
    stride; the four are left, top, right, bottom from the cell's centre (column + ½, row + ½)
    × stride − ½, the half pixel as upstream has it. Source: RangiLyu/nanodet, ``gfl_head``.
    """

    def __init__(self, head: base.Head) -> None:
        strides, bins = head.parameters["strides"], head.parameters["reg_max"] + 1
        self._levels = len(strides)
        counts = base.cell_counts(head.input_wh, strides)
        widths = (head.classes, 4 * bins)
        base.check_shapes(head, "nanodet", *((1, n, width) for width in widths for n in counts))
        positions, self._strides = base.cells(head.input_wh, strides)
        self._centres = positions * self._strides + np.float32(0.5) * (self._strides - 1)
        self._starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        self._bins = np.arange(bins, dtype=np.float32)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        kept, class_ids, scores, raw = [], [], [], []
        for level, start in enumerate(self._starts):
            level_scores = outputs[level][0]
            peaks = level_scores.max(axis=1)
            base.refuse_negative(peaks)
            rows = (peaks >= score).nonzero()[0]
            if len(rows):
                best, best_scores = base.best_class(level_scores[rows])
                kept.append(rows + start)
                class_ids.append(best)
                scores.append(best_scores)
                raw.append(outputs[level + self._levels][0][rows])
        if not kept:
            return base.NOTHING
        index = np.concatenate(kept)
        logits = np.concatenate(raw).reshape(len(index), 4, len(self._bins))
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        distance = (weights @ self._bins) / weights.sum(axis=2) * self._strides[index]
        centre = self._centres[index]
        xyxy = np.concatenate((centre - distance[:, :2], centre + distance[:, 2:]), axis=1)
        return base.Candidates(xyxy, np.concatenate(scores), np.concatenate(class_ids))


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    bodies, counts = [*graph.bodies.values()], base.cell_counts(size_wh)
    if len(bodies) != 6 or any(len(b) != 2 for b in bodies) or [b[0] for b in bodies] != counts * 2:
        return None
    (classes, *more_c), (bins, *more_b) = [b[1] for b in bodies[:3]], [b[1] for b in bodies[3:]]
    if set(more_c) != {classes} or set(more_b) != {bins} or not classes or not bins or bins % 4:
        return None
    parameters = {"strides": list(base.STRIDES), "reg_max": bins // 4 - 1}
    return base.Match(classes, parameters) if bins >= 8 else None


def doubt(outputs: base.NamedOutputs) -> str | None:
    return base.doubt_scores(*list(outputs.values())[: len(base.STRIDES)])


FAMILY = base.Family(
    name="nanodet",
    outputs="3x [1, n, C] and 3x [1, n, 4R]",
    parameters=(
        base.STRIDES_PARAMETER,
        base.Parameter(
            "reg_max",
            default=7,
            values=f"a whole number from 1 to {MAX_REG}",
            allows=lambda value: type(value) is int and 1 <= value <= MAX_REG,
        ),
    ),
    input={"pad": 0, "mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)},
    score=0.35,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=NanoDet,
)
