"""YuNet: faces with five landmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import base

WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # of the kinds of output, in their order


class YuNet:
    """Per level cls, obj, bbox (4) and kps (2 K), each [1, n, ·], in that order of kinds.

    score = √(cls × obj); centre = (cell + d) × stride, size = exp(d) × stride; keypoint
    = (cell + d) × stride. Source: ShiqiYu/libfacedetection.train; OpenCV ``FaceDetectorYN``.
    """

    def __init__(self, head: base.Head) -> None:
        strides = head.parameters["strides"]
        self._levels = len(strides)
        counts = base.cell_counts(head.input_wh, strides)
        widths = WIDTHS.values()
        base.check_shapes(head, "yunet", *((1, n, width) for width in widths for n in counts))
        self._cells, self._strides = base.cells(head.input_wh, strides)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        levels = self._levels
        cls, obj, bbox, kps = (
            np.concatenate([out[0] for out in outputs[kind * levels : (kind + 1) * levels]])
            for kind in range(4)
        )
        product: base.Array = np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1)
        kept = (product >= score * score).nonzero()[0]
        cell, stride, raw = self._cells[kept], self._strides[kept], bbox[kept]
        size = np.exp(raw[:, 2:]) * stride
        points = kps[kept].reshape(len(kept), kps.shape[1] // 2, 2)
        return base.Candidates(
            base.corners((raw[:, :2] + cell) * stride, size),
            np.sqrt(product[kept]),
            np.zeros(len(kept), np.intp),
            (points + cell[:, None]) * stride[:, None],
        )


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    levels = zip(base.STRIDES, base.cell_counts(size_wh), strict=True)
    wanted = {f"{kind}_{s}": (n, width) for s, n in levels for kind, width in WIDTHS.items()}
    return [base.Match(1, {"strides": list(base.STRIDES)})] if graph.bodies == wanted else []


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    return base.doubt_scores(*(v for k, v in outputs.items() if k.startswith(("cls", "obj"))))


FAMILY = base.Family(
    name="yunet",
    outputs="cls_8 … kps_32",
    parameters=(base.STRIDES_PARAMETER,),
    labels=("face",),
    input={"align": "top-left", "pad": 0},  # as OpenCV's FaceDetectorYN pads
    score=0.6,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YuNet,
)
