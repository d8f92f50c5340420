"""YOLOv5, as Ultralytics exports it; exports of YOLOv7 look the same."""

from __future__ import annotations

from . import base


class YoloV5:
    """[1, N, 5 + C]: centre and size in input pixels, objectness and classes after the sigmoid."""

    def __init__(self, head: base.Head) -> None:
        base.check_shapes(head, "yolov5", (1, "N", 5 + head.classes))

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        rows = outputs[0][0]
        kept, class_ids, scores = base.over_threshold(rows, score)
        return base.Candidates(base.corners(rows[kept, :2], rows[kept, 2:4]), scores, class_ids)


def recognise(graph: base.GraphIO, size_wh: base.SizeWh) -> base.Match | None:
    rows, columns = graph.matrix
    fits = rows == 3 * sum(base.cell_counts(size_wh)) and columns > 5
    return base.Match(columns - 5, {}) if fits else None


def doubt(outputs: base.NamedOutputs) -> str | None:
    rows = base.first_frame(outputs)
    return base.doubt_scores(rows[:, 4:]) or base.doubt_pixels(rows[:, :4])


FAMILY = base.Family(
    name="yolov5",
    outputs="[1, 3N, 5+C]",
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    recognise=recognise,
    doubt=doubt,
    decoder=YoloV5,
)
