"""UltraFace (Ultra-Light-Fast-Generic-Face-Detector), exported with its postprocessing."""

from __future__ import annotations

import numpy as np

from . import base

ANCHORS = (3, 2, 2, 3)  # of a cell, by level


class UltraFace:
    """scores [1, N, 2] after the softmax (column 1 is face), boxes [1, N, 4] as parts of 1."""

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "ultraface", (1, "N", 2), (1, "N", 4))
        self._scale = np.array(head.input_wh * 2, np.float32)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        scores = outputs[0][0, :, 1]
        base.refuse_negative(scores)
        kept = (scores >= score).nonzero()[0]
        return base.Candidates(
            outputs[1][0][kept] * self._scale, scores[kept], np.zeros(len(kept), np.intp)
        )


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    counts = base.cell_counts(size_wh, (*base.STRIDES, 64))
    n = sum(anchors * count for anchors, count in zip(ANCHORS, counts, strict=True))
    return base.Match(1, {}) if graph.bodies == {"scores": (n, 2), "boxes": (n, 4)} else None


def doubt(outputs: base.NamedOutputs) -> str | None:
    boxes = outputs["boxes"][0]
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        return "its boxes are not decoded in the graph: use the file with postprocessing"
    return base.doubt_scores(outputs["scores"])


FAMILY = base.Family(
    name="ultraface",
    outputs="scores [1, n, 2] and boxes [1, n, 4]",
    labels=("face",),
    input={"channels": "RGB", "resize": "stretch", "mean": (127.0,) * 3, "std": (128.0,) * 3},
    score=0.7,
    any_size=False,
    recognise=recognise,
    doubt=doubt,
    decoder=UltraFace,
)
