"""Boxes decoded in the graph, a row each, in columns that a manifest describes.

Most exports that decode boxes differ in the order of columns only: with NMS or the choice of a
transformer's queries in the graph (YOLOv10, YOLO26, D-FINE, RF-DETR, EfficientNMS, MMDeploy, SSD)
or before NMS (YOLO-NAS, PP-YOLOE, poses, masks). What is recognised stands in row_forms.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import base
from .row_forms import (
    IGNORED,
    MASK_LOGITS,
    MASKS,
    SHARES,
    WHOLE,
    forms,
    is_rtdetr,
    is_yolov8,
    parse,
)

Wide = Callable[[NDArray[Any]], NDArray[Any]]


class Columns(NamedTuple):
    """Of one output: how it becomes a table (N, width), and where in it everything stands."""

    table: Wide
    places: Mapping[str, slice]


class Rows:
    """A table, or several with a row for the same box in each, as ``columns`` describes them.

    One description an output, in graph order, of words: ``xyxy``, ``yxyx``, ``xywh`` (centre and
    size), ``score``, ``class``, ``object`` (multiplied with the scores), ``scores`` (one a class),
    ``count`` (how many rows there are), ``points:KxD`` (keypoints, the first two of D are x and y),
    ``angle`` (of the box, clockwise in radians), ``coefficients:K`` (of a mask's K prototypes),
    ``skip:K``; "-" for an output that is not read. With ``scores`` a row has its best class. A
    third of D is a keypoint's score. Whole outputs over all of the input: ``prototypes`` (K, h, w);
    ``masks`` (N, h, w), a mask a row, from 0 to 1; ``mask_logits``, the same as logits.
    ``units``: of boxes and points, "pixels" of the input or "shares" of it. ``activation``: of
    ``scores``. ``first_class``: the number or column of the first label.
    """

    def __init__(self, head: base.Head) -> None:
        parameters = head.parameters
        self._first: int = parameters["first_class"]
        self._classes, self._activation = head.classes, parameters["activation"]
        self._scale = np.array(head.input_wh * 2, np.float32)
        if parameters["units"] != SHARES:
            self._scale[:] = 1
        texts = parameters["columns"]
        found = [
            _columns(shape, text, head.classes + self._first)
            for shape, text in zip(head.shapes, texts, strict=False)
            if text not in (IGNORED, *WHOLE)
        ]
        names = {name for each in found if each is not None for name in each.places}
        self._planes = next((i for i, text in enumerate(texts) if text in WHOLE), None)
        self._level = 0.5 if MASKS in texts else 0.0
        if (
            len(texts) != len(head.shapes)
            or None in found
            or not names & {"score", "scores"}
            or ("coefficients" in names) != ("prototypes" in texts)
            or (self._planes is not None and not _are_planes(head, self._planes, texts))
        ):
            told = "; ".join(texts) or "what `decoder.columns` says, which is missing"
            raise base.misfit(head, "rows", told)
        self._outputs = [i for i, text in enumerate(texts) if text not in (IGNORED, *WHOLE)]
        self._columns = [each for each in found if each is not None]
        self._points = next(
            (size for i in self._outputs for name, size in parse(texts[i]) if name == "points"),
            (0, 2),
        )
        self._point_names = tuple(parameters["point_names"])
        if len(self._point_names) not in (0, self._points[0]):
            told = f"{self._points[0]} keypoints: `decoder.point_names` names others"
            raise base.misfit(head, "rows", told)

    def __call__(self, outputs: base.Outputs, score: float) -> base.Candidates:
        got: dict[str, NDArray[Any]] = {}
        for i, (table, places) in zip(self._outputs, self._columns, strict=True):
            rows = table(outputs[i])
            for name, place in places.items():
                got[name] = rows[:, place]
        if "count" in got:
            count = max(int(np.nan_to_num(got.pop("count")[0, 0])), 0)
            got = {name: rows[:count] for name, rows in got.items()}
        kept, scores, class_ids = self._over(got, score)
        if not len(kept):
            return base.NOTHING
        scores = scores.astype(np.float32, copy=False)
        boxes, masks = self._boxes(got, kept), None
        if self._planes is None and not got.keys() & {"points", "angle"}:
            return base.Candidates(boxes, scores, class_ids)
        turned = self._turned(got, kept) if "angle" in got else None
        if self._planes is not None:
            planes = outputs[self._planes]
            rows = got["coefficients"][kept] if "coefficients" in got else kept
            masks = base.MaskPlanes(rows, planes.reshape(-1, *planes.shape[-2:]), self._level)
        return base.Candidates(
            *(boxes if turned is None else base.hulls(turned), scores, class_ids),
            *self._keypoints(got, kept),
            turned,
            masks,
            self._point_names,
        )

    def _turned(self, got: Mapping[str, NDArray[Any]], kept: NDArray[np.intp]) -> base.Array:
        sides = got["xywh"][kept] * self._scale
        return np.concatenate((sides, got["angle"][kept]), axis=1).astype(np.float32, copy=False)

    def _over(
        self, got: Mapping[str, NDArray[Any]], score: float
    ) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[np.intp]]:
        """Indices, scores and class ids of the rows with at least ``score``."""
        if "scores" not in got:
            scores, ids = got["score"][:, 0], np.zeros(len(got["score"]), np.float32)
            if "class" in got:
                ids = got["class"][:, 0] - np.float32(self._first)
            # a class that the labels do not have is no class: graphs fill empty rows so
            kept = ((scores >= score) & (ids >= 0) & (ids < self._classes)).nonzero()[0]
            return kept, scores[kept], np.rint(ids[kept]).astype(np.intp)
        table, least = got["scores"], score
        if self._activation == "softmax":
            table = np.exp(table - table.max(axis=1, keepdims=True))
            table /= table.sum(axis=1, keepdims=True)
        elif self._activation == "sigmoid":
            least = base.logit(score)
        table = table[:, self._first : self._first + self._classes]
        peaks = table.max(axis=1)
        if self._activation == "none":
            base.refuse_negative(peaks)
        kept = (peaks >= least).nonzero()[0]
        scores, ids = peaks[kept], table[kept].argmax(axis=1)
        if self._activation == "sigmoid":
            scores = base.sigmoid(scores)
        if "object" in got:
            scores = scores * got["object"][kept, 0]
            strong = scores >= score
            kept, scores, ids = kept[strong], scores[strong], ids[strong]
        return kept, scores, ids

    def _boxes(self, got: Mapping[str, NDArray[Any]], kept: NDArray[np.intp]) -> base.Array:
        if "xywh" in got:
            box = got["xywh"][kept] * self._scale
            return base.corners(box[:, :2], box[:, 2:])
        if "yxyx" in got:
            return np.asarray(got["yxyx"][kept][:, [1, 0, 3, 2]] * self._scale, np.float32)
        return np.asarray(got["xyxy"][kept] * self._scale, np.float32)

    def _keypoints(
        self, got: Mapping[str, NDArray[Any]], kept: NDArray[np.intp]
    ) -> tuple[base.Array | None, base.Array | None]:
        """The places, and the scores if there are some."""
        if "points" not in got:
            return None, None
        points = got["points"][kept].reshape(len(kept), *self._points).astype(np.float32)
        scores = points[:, :, 2].clip(0, 1) if self._points[1] == 3 else None
        return points[:, :, :2] * self._scale[:2], scores


def _are_planes(head: base.Head, index: int, texts: Sequence[str]) -> bool:
    """Whether an output holds a plane for each row or coefficient, which cover the whole input."""
    shape, (width, height) = head.shapes[index], head.input_wh
    counts = [
        size[0] for text in texts if text not in (IGNORED, *WHOLE)
        for name, size in parse(text) if name == "coefficients"
    ]  # fmt: skip
    fits = len(shape) == 4 and width * shape[2] == height * shape[3]
    return fits and (not counts or [shape[1]] == counts)


def _columns(shape: tuple[int, ...], text: str, classes: int) -> Columns | None:
    """How an output of this shape holds what ``text`` says; None if it does not."""
    words = parse(text)
    wide = [name for name, _ in words].count("scores")
    total = sum(int(np.prod(size)) for _, size in words)
    dims = [n for n in shape[1:] if n != 1] if len(shape) > 3 else [*shape][-2:]
    if total == 1 and not wide:
        return Columns(lambda out: out.reshape(-1, 1), {words[0][0]: slice(0, 1)})
    # a column more, of the background, may stand behind the classes
    for width in (total + wide * classes, *([total + classes + 1] if wide else [])):
        places, start = {}, 0
        for name, size in words:
            stop = start + (width - total if name == "scores" else int(np.prod(size)))
            places[name] = slice(start, stop)
            start = stop
        if dims[-1:] == [width]:
            return Columns(_table(width), places)
        if len(dims) == 2 and dims[0] == width:
            return Columns(_turned(width), places)
    return None


def _table(width: int) -> Wide:
    return lambda out: out.reshape(-1, width)


def _turned(width: int) -> Wide:
    return lambda out: out.reshape(width, -1).T


# -- the families ----------------------------------------------------------------------------------


def _are_columns(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and _is_text(v) for v in value)


def _is_text(text: str) -> bool:
    try:
        return text in (IGNORED, *WHOLE) or bool(parse(text))
    except ValueError:
        return False


def _one_of(name: str, *values: str) -> base.Parameter:
    told = " or ".join(f'"{value}"' for value in values)
    return base.Parameter(name, values[0], told, lambda value: value in values)


PARAMETERS = (
    base.Parameter(
        "columns", [], 'a list like ["xyxy score class"], a text for each output', _are_columns
    ),
    _one_of("units", "pixels", SHARES),
    _one_of("activation", "none", "sigmoid", "softmax"),
    base.Parameter(
        "first_class", 0, "0 or 1", lambda value: type(value) is int and value in (0, 1)
    ),
    base.Parameter(
        "point_names",
        [],
        "a list of names, one a keypoint",
        lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    ),
)


def doubt(outputs: base.NamedOutputs, match: base.Match, size_wh: base.SizeWh) -> str | None:
    """The first thing that speaks against the columns, or None."""
    parameters = FAMILY.complete(match.parameters)
    classes = match.classes or 1
    got: dict[str, NDArray[Any]] = {}
    for output, text in zip(outputs.values(), parameters["columns"], strict=True):
        if text in (MASKS, MASK_LOGITS) and (why := _doubt_masks(text, output)):
            return why
        if text in (IGNORED, *WHOLE):
            continue
        columns = _columns(output.shape, text, classes + parameters["first_class"])
        if columns is None:
            return f"an output is not [{text}]"
        rows = columns.table(output)
        got |= {name: rows[:, place] for name, place in columns.places.items()}
    if "count" in got:
        count = int(np.nan_to_num(got.pop("count")[0, 0]))
        if not 0 <= count <= min(map(len, got.values())):
            return f"{count} is no number of rows"
        got = {name: rows[:count] for name, rows in got.items()}
    kind = next(name for name in ("xyxy", "yxyx", "xywh") if name in got)
    return (
        _doubt_scores(got, parameters, match)
        or _doubt_boxes(
            *(got[kind].astype(np.float64), kind, parameters["units"], size_wh),
            turned="angle" in got,
        )
        or _doubt_points(got, parameters)
    )


def _doubt_scores(
    got: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], match: base.Match
) -> str | None:
    scores = got.get("scores", got.get("score"))
    assert scores is not None
    if not len(scores):
        return None
    low = float(scores.min())
    if not np.isfinite(scores).all():
        return "its scores are no numbers"
    if "scores" in got and parameters["activation"] != "none":
        return None if low < -0.01 else "its scores are not negative anywhere, as logits are"
    objects = [got["object"]] if "object" in got else []
    if why := base.doubt_scores(scores, *objects):
        return why
    if "scores" in got:
        told = scores[:, -1:] if scores.shape[1] == 2 else scores  # or a score and its class
        whole = bool((told == np.rint(told)).all())
        sums = bool(np.allclose(scores.sum(axis=1), 1, atol=1e-3)) and scores.shape[1] > 1
        if whole and not objects:
            return "its scores are whole numbers only, as those of classes are"
        if sums and not parameters["first_class"] and scores.shape[1] > (match.classes or 0):
            return "its scores add up to 1, so one of them is the background's"
        if parameters["first_class"] and not sums and scores.shape[1] != 91:
            return "its scores do not add up to 1"
        return None
    if "class" not in got:
        return None
    ids, first = got["class"], parameters["first_class"]
    if bool((ids != np.rint(ids)).any()) or float(ids.max()) > 10_000:
        return "its class column holds other than whole numbers"
    shown = ids[scores > 0.05]
    if first and shown.size and float(shown.min()) < 1:
        return "its classes begin at 0"
    if "yxyx" in got and not first and shown.size and float(shown.min()) >= 1:
        return "its classes begin at 1"
    return None


def _doubt_boxes(
    boxes: NDArray[np.float64], kind: str, units: str, size_wh: base.SizeWh, *, turned: bool
) -> str | None:
    boxes = boxes[(boxes != 0).any(axis=1) & (boxes != -1).any(axis=1)]  # graphs fill up so
    if not np.isfinite(boxes).all():
        return "its boxes are no numbers"
    if not len(boxes):
        return "it shows no box" if units == SHARES else None
    far = float(np.abs(boxes).max())
    if units == SHARES and far > 2:
        return "its boxes are not shares of the input"
    if units != SHARES and (far <= 2 or far > 4 * max(size_wh)):
        return "its boxes are not in pixels of the input"
    ordered = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    if kind == "xywh":
        if (boxes[:, 2:] < 0).any():
            return "its boxes have negative sizes"
        corners = not turned and (boxes[:, 2:] > boxes[:, :2]).all()
        return "its boxes look like corners" if corners else None
    if ordered.mean() < 0.99:
        return "its boxes are not corners: the right one is left of the left one"
    return None


def _doubt_masks(kind: str, planes: NDArray[Any]) -> str | None:
    low, high = float(planes.min(initial=0)), float(planes.max(initial=0))
    if kind == MASKS and not -0.01 <= low <= high <= 1.01:
        return "its masks are not from 0 to 1"
    if kind == MASK_LOGITS and low >= 0:
        return "its masks are not negative anywhere, as logits are"
    return None


def _doubt_points(got: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> str | None:
    if "points" not in got or not got["points"].any():
        return None
    points = got["points"].astype(np.float64)
    # in threes each has a score; what does not is no set of keypoints
    text = " ".join(parameters["columns"])
    if re.search(r"points:\d+x3", text):
        scores = points.reshape(len(points), -1, 3)[:, :, 2]
        if why := base.doubt_scores(scores):
            return f"of its keypoints {why}"
    pixels = float(np.abs(points).max()) > 2
    return None if pixels == (parameters["units"] != SHARES) else "its keypoints are no pixels"


FAMILY = base.Family(
    name="rows",
    outputs="boxes and scores, decoded",
    parameters=PARAMETERS,
    input={"channels": "RGB", "scale": 1 / 255},
    score=0.35,
    any_size=True,
    recognise=lambda graph, size: [
        m for m in forms(graph, size) if not m.parameters.get("end_to_end")
    ],
    doubt=doubt,
    decoder=Rows,
)
END_TO_END = replace(
    FAMILY,
    variant="end_to_end",
    outputs="boxes after NMS",
    needs_nms=False,
    varies=True,
    recognise=lambda graph, size: [m for m in forms(graph, size) if m.parameters.get("end_to_end")],
)


# -- YOLOv8's, which had a name of its own before --------------------------------------------------

COLUMNS = FAMILY.complete({"columns": ["xyxy score class"]})


def _as_rows(match: base.Match) -> base.Match:
    return match._replace(parameters=COLUMNS)


def _yolov8(head: base.Head) -> base.Decoder:
    return Rows(head._replace(parameters=COLUMNS))


def recognise_yolov8(graph: base.GraphIO, size_wh: base.SizeWh) -> Sequence[base.Match]:
    """YOLOv8 with NMS, YOLOv10, YOLO26: [1, M, 6] in pixels."""
    rows, columns = graph.matrix
    if columns != 6 or base.levels(rows, size_wh) or base.levels(rows, size_wh, 3):
        return []
    if graph.task not in ("", "detect") or is_rtdetr(graph) or not is_yolov8(graph, rows):
        return []
    return [base.Match(None, {"end_to_end": True}, "YOLOv8 with NMS, YOLOv10 or YOLO26")]


YOLOV8 = replace(
    END_TO_END,
    name="yolov8",
    parameters=(),
    outputs="[1, 300, 6]",
    recognise=recognise_yolov8,
    doubt=lambda outputs, match, size: doubt(outputs, _as_rows(match), size),
    decoder=_yolov8,
)
