"""YOLOX, exported without ``--decode_in_inference``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import base


def _are_strides(value: Any) -> bool:
    """Also twice the same: a second head, say one for faces alone, has rows for the same cells."""
    half = len(value) // 2 if isinstance(value, list) else 0
    twice = half > 1 and value[:half] * 2 == value
    return base.are_strides(value[:half] if twice else value)


STRIDES = base.Parameter(
    "strides",
    [*base.STRIDES],
    f"{base.STRIDES_PARAMETER.values}, or such a list twice",
    _are_strides,
)


class YoloX:
    """[1, N, 5 + C]: raw xy and log wh per cell, objectness and classes after the sigmoid.

    Source: Megvii YOLOX, ``demo_postprocess``.
    """

    def __init__(self, head: base.Head) -> None:
        self._cells, self._strides = base.cells(head.input_wh, head.parameters["strides"])
        base.check_shapes(head, "yolox", (1, len(self._cells), 5 + head.classes))

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows = outputs[0][0]
        kept, class_ids, scores = base.over_threshold(rows, score)
        raw, stride = rows[kept, :4], self._strides[kept]
        size = np.exp(raw[:, 2:]) * stride
        return base.Candidates(
            base.corners((raw[:, :2] + self._cells[kept]) * stride, size), scores, class_ids
        )


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    rows, columns = graph.matrix
    if columns <= 5 or graph.task not in ("", "detect"):
        return []
    ways = ((heads, base.levels(rows, size_wh, heads)) for heads in (1, 2))
    return [base.Match(columns - 5, {"strides": found * n}) for n, found in ways if found]


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    rows = base.first_frame(outputs)
    if why := base.doubt_scores(rows[:, 4:]):
        return why
    low, high = float(rows[:, :4].min()), float(rows[:, :4].max())
    if high >= base.STRIDES[-1]:
        return "its boxes are decoded in the graph already"
    if 0 <= low < high <= 1:  # terms of a real picture have both signs
        return "its boxes look like shares of the input, decoded in the graph"
    return None


def _grid(head: base.Head) -> base.Array:
    return np.concatenate(base.cells(head.input_wh, head.parameters["strides"]), axis=1)


FAMILY = base.Family(
    name="yolox",
    outputs="[1, N, 5+C]",
    parameters=(STRIDES,),
    input={"align": "top-left"},
    score=0.35,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloX,
    export="Export it with YOLOX's `tools/export_onnx.py`",
    device=base.DeviceKernel("candidates_yolox", _grid),
)
