"""YOLOX, exported without ``--decode_in_inference``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import (
    STRIDES,
    STRIDES_PARAMETER,
    Array,
    Candidates,
    DeviceKernel,
    Family,
    GraphIO,
    Head,
    Match,
    SizeWh,
    cell_counts,
    cells,
    corners,
    doubt_scores,
    first_frame,
    over_threshold,
    refuse,
)


class YoloX:
    """[1, N, 5 + C]: raw xy and log wh per cell, objectness and classes after the sigmoid.

    Source: Megvii YOLOX, ``demo_postprocess``.
    """

    def __init__(self, head: Head) -> None:
        self._cells, self._strides = cells(head.input_wh, head.parameters["strides"])
        expected = (1, len(self._cells), 5 + head.classes)
        if list(head.shapes) != [expected]:
            raise refuse(head, "yolox", f"one of {list(expected)}")

    def __call__(self, outputs: Sequence[NDArray[Any]], score: float) -> Candidates:
        rows = outputs[0][0]
        kept, class_ids, scores = over_threshold(rows, score)
        raw, stride = rows[kept, :4], self._strides[kept]
        size = np.exp(raw[:, 2:]) * stride
        return Candidates(
            corners((raw[:, :2] + self._cells[kept]) * stride, size), scores, class_ids
        )


def recognise(graph: GraphIO, size_wh: SizeWh) -> Match | None:
    rows, columns = graph.matrix
    fits = rows == sum(cell_counts(size_wh)) and columns > 5
    return Match(columns - 5, {"strides": list(STRIDES)}) if fits else None


def doubt(outputs: Mapping[str, NDArray[Any]]) -> str | None:
    rows = first_frame(outputs)
    if why := doubt_scores(rows[:, 4:]):
        return why
    if float(np.abs(rows[:, :4]).max()) >= STRIDES[-1]:
        return "its boxes are decoded in the graph already: export YOLOX without decoding"
    return None


def _grid(head: Head) -> Array:
    """Column, row and stride of each cell."""
    return np.concatenate(cells(head.input_wh, head.parameters["strides"]), axis=1)


FAMILY = Family(
    name="yolox",
    variant=None,
    outputs="[1, N, 5+C]",
    parameters=(STRIDES_PARAMETER,),
    labels=(),
    input={"align": "top-left"},
    score=0.35,
    any_size=True,
    needs_nms=True,
    varies=False,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloX,
    device=DeviceKernel("candidates_yolox", _grid),
)
