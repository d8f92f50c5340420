"""Small face detectors over fixed boxes: UltraFace, RetinaFace, BlazeFace.

A box is given relative to a prior, one of a few fixed sizes a cell. Centre = prior centre + d × v₀
× prior size, size = prior size × exp(d × v₁), with v = (0.1, 0.2); BlazeFace: both plainly in parts
of the input. All are parts of 1, as they learned one input size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from . import base

VARIANCES = (0.1, 0.2)
# least sides of the priors, in pixels, by stride
ULTRAFACE = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
RETINAFACE = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
BLAZEFACE = {8: (1, 1), 16: (1,) * 6}  # of these only the centres count
Sides = Mapping[int, tuple[int, ...]]


def priors(sides: Sides, input_wh: base.SizeWh) -> tuple[base.Array, base.Array]:
    """Centres and sizes (N, 2) as parts of the input: by stride, cell and size."""
    wh = np.array(input_wh, np.float32)
    centres, sizes = [], []
    for stride, some in sides.items():
        positions, _ = base.cells(input_wh, (stride,))
        centres.append(np.repeat((positions + np.float32(0.5)) * stride / wh, len(some), axis=0))
        sizes.append(np.tile(np.array(some, np.float32)[:, None] / wh, (len(positions), 1)))
    return np.concatenate(centres), np.concatenate(sizes)


def count(sides: Sides, input_wh: base.SizeWh) -> int:
    cells = base.cell_counts(input_wh, [*sides])
    return sum(n * len(some) for n, some in zip(cells, sides.values(), strict=True))


# -- UltraFace -------------------------------------------------------------------------------------


class UltraFace:
    """scores [1, N, 2] after the softmax (column 1 is face), boxes [1, N, 4] as parts of 1.

    ``undecoded``: boxes are relative to priors. Source: Linzaer, ``box_utils.py``.
    """

    def __init__(self, head: base.Head, *, undecoded: bool = False) -> None:
        base.check_shapes(head, "ultraface", (1, "N", 2), (1, "N", 4))
        self._scale = np.array(head.input_wh * 2, np.float32)
        self._priors = None
        if undecoded:
            centres, sizes = priors(ULTRAFACE, head.input_wh)
            if len(centres) != head.shapes[0][1]:
                raise base.misfit(head, "ultraface", f"[1, {len(centres)}, 2]")
            self._priors = np.clip(centres, 0, 1), np.clip(sizes, 0, 1)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        scores = outputs[0][0, :, 1]
        base.refuse_negative(scores)
        kept = (scores >= score).nonzero()[0]
        boxes = outputs[1][0][kept]
        if self._priors is not None:
            boxes = _decoded(boxes, *(part[kept] for part in self._priors))
        return base.Candidates(boxes * self._scale, scores[kept], np.zeros(len(kept), np.intp))


def _decoded(raw: base.Array, centres: base.Array, sizes: base.Array) -> base.Array:
    near, far = VARIANCES
    size = sizes * np.exp(raw[:, 2:] * np.float32(far))
    return base.corners(centres + raw[:, :2] * np.float32(near) * sizes, size)


def recognise_ultraface(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    n = count(ULTRAFACE, size_wh)
    fits = graph.bodies == {"scores": (n, 2), "boxes": (n, 4)}
    return [base.Match(1, {})] if fits else []


def doubt_ultraface(
    outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh
) -> str | None:
    boxes = outputs["boxes"][0]
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        return "its boxes are not decoded in the graph"
    return base.doubt_scores(outputs["scores"])


def doubt_undecoded(
    outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh
) -> str | None:
    boxes = outputs["boxes"][0]
    if not (boxes[:, 2:] <= boxes[:, :2]).any():
        return "its boxes are decoded in the graph"
    return base.doubt_scores(outputs["scores"])


ULTRAFACE_FAMILY = base.Family(
    name="ultraface",
    outputs="scores [1, n, 2] and boxes [1, n, 4]",
    labels=("face",),
    input={"channels": "RGB", "resize": "stretch", "mean": (127.0,) * 3, "std": (128.0,) * 3},
    score=0.7,
    any_size=False,
    recognise=recognise_ultraface,
    doubt=doubt_ultraface,
    decoder=UltraFace,
)
ULTRAFACE_UNDECODED = replace(
    ULTRAFACE_FAMILY,
    variant="undecoded",
    recognise=lambda graph, size: [
        m._replace(parameters={"undecoded": True}) for m in recognise_ultraface(graph, size)
    ],
    doubt=doubt_undecoded,
    decoder=lambda head: UltraFace(head, undecoded=True),
)


# -- RetinaFace ------------------------------------------------------------------------------------


class RetinaFace:
    """Boxes [1, N, 4], scores [1, N, 2] after the softmax (column 1 is face), landmarks [1, N, 10].

    In any order; keypoint = prior centre + d × 0.1 × prior size. Source: biubug6,
    Pytorch_Retinaface, ``box_utils.py``.
    """

    def __init__(self, head: base.Head) -> None:
        self._centres, self._sizes = priors(RETINAFACE, head.input_wh)
        n = len(self._centres)
        wanted = {(1, n, width) for width in (4, 2, 10)}
        if {*map(tuple, head.shapes)} != wanted or len(head.shapes) != 3:
            told = ", ".join(str([*shape]) for shape in sorted(wanted))
            raise base.misfit(head, "retinaface", told)
        widths = [shape[2] for shape in head.shapes]
        self._boxes, self._scores, self._points = (widths.index(width) for width in (4, 2, 10))
        self._wh = np.array(head.input_wh, np.float32)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        scores = outputs[self._scores][0, :, 1]
        base.refuse_negative(scores)
        kept = (scores >= score).nonzero()[0]
        centres, sizes = self._centres[kept], self._sizes[kept]
        boxes = _decoded(outputs[self._boxes][0][kept], centres, sizes)
        offsets = outputs[self._points][0][kept].reshape(len(kept), 5, 2)
        points = centres[:, None] + offsets * np.float32(VARIANCES[0]) * sizes[:, None]
        return base.Candidates(
            boxes * np.tile(self._wh, 2),
            scores[kept],
            np.zeros(len(kept), np.intp),
            points * self._wh,
        )


def recognise_retinaface(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    n = count(RETINAFACE, size_wh)
    fits = sorted(graph.bodies.values()) == [(n, 2), (n, 4), (n, 10)]
    return [base.Match(1, {})] if fits else []


def doubt_retinaface(
    outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh
) -> str | None:
    widths = {array.shape[-1]: array for array in outputs.values()}
    if float(np.abs(widths[4]).max()) > 100:
        return "its boxes are decoded in the graph"
    return base.doubt_scores(widths[2])


RETINAFACE_FAMILY = base.Family(
    name="retinaface",
    outputs="[1, n, 4], [1, n, 2] and [1, n, 10]",
    labels=("face",),
    input={"mean": (104.0, 117.0, 123.0), "align": "top-left", "pad": 0},
    score=0.6,
    any_size=True,
    recognise=recognise_retinaface,
    doubt=doubt_retinaface,
    decoder=RetinaFace,
)


# -- BlazeFace -------------------------------------------------------------------------------------


class BlazeFace:
    """Regressors [1, n, 16] in pixels and logits [1, n, 1], of all levels or of each.

    A regressor is centre from the cell's middle, size, and six keypoints. Source: MediaPipe,
    ``face_detection_short_range``, with an input of 128 pixels.
    """

    def __init__(self, head: base.Head) -> None:
        centres, _ = priors(BLAZEFACE, head.input_wh)
        self._centres = centres * np.array(head.input_wh, np.float32)
        order: list[list[int]] = []
        for width in (16, 1):
            mine = [i for i, shape in enumerate(head.shapes) if shape[-1] == width]
            order.append(sorted(mine, key=lambda i: -head.shapes[i][-2]))
        counts = [[head.shapes[i][1] for i in mine] for mine in order]
        fits = all(len(shape) == 3 and shape[0] == 1 for shape in head.shapes)
        if not fits or counts[0] != counts[1] or sum(counts[0]) != len(centres):
            raise base.misfit(head, "blazeface", f"[1, {len(centres)}, 16] and [1, n, 1]")
        self._raw, self._scores = order

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        logits = np.concatenate([outputs[i][0, :, 0] for i in self._scores])
        kept = (logits >= base.logit(score)).nonzero()[0]
        raw = np.concatenate([outputs[i][0] for i in self._raw])[kept]
        centres = self._centres[kept]
        points = raw[:, 4:].reshape(len(kept), 6, 2) + centres[:, None]
        return base.Candidates(
            base.corners(raw[:, :2] + centres, raw[:, 2:4]),
            base.sigmoid(logits[kept]),
            np.zeros(len(kept), np.intp),
            points,
        )


def recognise_blazeface(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    levels = [n * len(s) for n, s in zip(
        base.cell_counts(size_wh, [*BLAZEFACE]), BLAZEFACE.values(), strict=True
    )]  # fmt: skip
    seen = sorted(body for body in graph.bodies.values() if None not in body)
    for counts in ([sum(levels)], levels):
        if seen == sorted((n, width) for n in counts for width in (1, 16)):
            return [base.Match(1, {})]
    return []


def doubt_blazeface(
    outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh
) -> str | None:
    if min(float(a.min()) for a in outputs.values() if a.shape[-1] == 1) < -0.01:
        return None
    return "its scores are not negative anywhere, as logits are"


BLAZEFACE_FAMILY = base.Family(
    name="blazeface",
    outputs="[1, 896, 16] and [1, 896, 1]",
    labels=("face",),
    input={"channels": "RGB", "mean": (127.5,) * 3, "std": (127.5,) * 3, "pad": 0},
    score=0.6,
    any_size=False,
    recognise=recognise_blazeface,
    doubt=doubt_blazeface,
    decoder=BlazeFace,
)
