"""Classifiers: the best label of the part of the frame that the network sees, and its score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import base

CROPPED: base.InputDefaults = {"channels": "RGB", "resize": "crop"}
TORCHVISION: base.InputDefaults = {**base.IMAGENET, "resize": "crop"}
WHOLE = "its picture is taken to be the middle of the frame, normalised as torchvision does it"


class Classify:
    """[1, C] scores of the whole input: one candidate, as large as the input.

    ``activation``: "none" where they are probabilities, "softmax" where they are logits.
    """

    def __init__(self, head: base.Head) -> None:
        shapes = [[n for n in shape[1:] if n != 1] for shape in head.shapes]
        if shapes != [[head.classes]]:
            base.check_shapes(head, "classify", (1, head.classes))
        self._softmax = head.parameters["activation"] == "softmax"
        self._box = np.array([(0, 0, *head.input_wh)], np.float32)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        scores = outputs[0].reshape(-1)
        if self._softmax:
            scores = np.exp(scores - scores.max())
            scores /= scores.sum()
        base.refuse_negative(scores)
        best = int(scores.argmax())
        if not scores[best] >= score:  # nor if it is NaN
            return base.NOTHING
        return base.Candidates(self._box, scores[best : best + 1], np.array([best]))


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    """A single output of as many numbers as there are classes."""
    shapes = [[n for n in shape[1:] if n != 1] for shape in graph.shapes]
    if graph.task not in ("", "classify") or len(shapes) != 1 or len(shapes[0]) != 1:
        return []
    if graph.shapes[0][0] != 1 or (graph.labels and [len(graph.labels)] != shapes[0]):
        return []
    noted = graph.task == "classify"
    image, notes = (None, ()) if noted else (TORCHVISION, (WHOLE,))
    return [
        base.Match(shapes[0][0], {"activation": each}, "a classifier", image, notes=notes)
        for each in ("none", "softmax")
    ]


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    """Probabilities lie within 0 and 1; logits do not."""
    scores = base.first_frame(outputs)
    likely = float(scores.min()) >= 0 and float(scores.max()) <= 1
    if not np.isfinite(scores).all():
        return "its scores are no numbers"
    if match.parameters["activation"] == "none":
        return None if likely else base.doubt_scores(scores)
    return "its scores are no logits: they lie within 0 and 1" if likely else None


FAMILY = base.Family(
    name="classify",
    outputs="[1, C], of the whole picture",
    parameters=(
        base.Parameter(
            "activation",
            "none",
            '"none" or "softmax"',
            lambda value: value in ("none", "softmax"),
        ),
    ),
    input={**CROPPED, "scale": 1 / 255},
    score=0.25,
    any_size=False,
    needs_nms=False,
    recognise=recognise,
    doubt=doubt,
    decoder=Classify,
    export="Export it with `yolo export model=best-cls.pt format=onnx`",
)
