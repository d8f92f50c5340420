"""Which exports have decoded boxes in rows: the columns and the input of each, told by shapes.

Several may fit the shapes of one graph; the values of a run decide between them (rows.doubt).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

from ...core.overlay import COCO17
from . import base

IGNORED, SHARES = "-", "shares"
PROTOTYPES, MASKS, MASK_LOGITS = WHOLE = "prototypes", "masks", "mask_logits"  # whole outputs
_WIDTHS = {"xyxy": 4, "yxyx": 4, "xywh": 4, "scores": 0, "score": 1, "class": 1, "object": 1}
_WIDTHS |= {"count": 1, "angle": 1}
_SIZED = re.compile(r"(points|skip|coefficients):(\d{1,4})(?:x([23]))?")
POINTS = ((17, 3), (5, 3), (5, 2), (17, 2), (21, 3), (4, 2))  # that are looked for without a note
MOST_QUERIES = 1000  # of a transformer

STRETCHED: base.InputDefaults = {"resize": "stretch"}
IMAGENET: base.InputDefaults = {**base.IMAGENET, "resize": "stretch", "scale": 1.0}
MMDET: base.InputDefaults = {
    "channels": "BGR",
    "scale": 1.0,
    "mean": (103.53, 116.28, 123.675),
    "std": (57.375, 57.12, 58.395),
    "align": "top-left",
}
PLAIN: base.InputDefaults = {"scale": 1.0, "resize": "stretch"}  # 0..255, as DAMO-YOLO has it
YX = "its corners are taken to be y, x, y, x, as TensorFlow has them"
NO_MASKS = "its masks are not of the whole input and are left out: its boxes are used"
PADDLE = (
    "its input is taken to be PicoDet's and older PP-YOLOE's; PP-YOLOE+ wants "
    "--scale 0.00392157 --mean 0,0,0 --std 1,1,1"
)


def parse(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """The words of a description and their sizes; that of ``scores`` is 0. Raises ValueError."""
    words = list[tuple[str, tuple[int, ...]]]()
    for word in text.split():
        if word in _WIDTHS:
            words.append((word, (_WIDTHS[word],)))
        elif (found := _SIZED.fullmatch(word)) and found[1] == "points":
            words.append((found[1], (int(found[2]), int(found[3] or 2))))
        elif found and not found[3]:
            words.append((found[1], (int(found[2]),)))
        else:
            raise ValueError(f"{word!r} is no column")
    return words


def forms(graph: base.GraphIO, size_wh: base.SizeWh) -> Iterator[base.Match]:
    """All ways to read the outputs as rows that the exporter's note of its head allows."""
    for match in _forms(graph, size_wh):
        if "head" not in graph.metadata or is_rtdetr(graph) == match.what.startswith("RT-DETR"):
            yield match


def is_rtdetr(graph: base.GraphIO) -> bool:
    return graph.metadata.get("head") == "RTDETRDecoder"


def _forms(graph: base.GraphIO, size_wh: base.SizeWh) -> Iterator[base.Match]:
    shapes = [tuple(n or 0 for n in shape) for shape in graph.shapes]
    if not shapes or graph.task not in ("", "detect", "segment", "pose", "obb"):
        return
    tables = [*map(_table, shapes)]
    if len(shapes) == 1 and len(shapes[0]) == 3:
        yield from _turned(graph, size_wh, tables[0])
    if graph.task == "obb":
        return
    if len(tables[0]) == 2 and len(shapes[0]) > 1 and all(_beside(s) for s in shapes[1:]):
        yield from _one_table(graph, size_wh, shapes, tables[0])
    if len(shapes) > 1:
        yield from _several(graph, size_wh, shapes, tables)


def _turned(
    graph: base.GraphIO, size_wh: base.SizeWh, table: tuple[int, ...]
) -> Iterator[base.Match]:
    """Turned boxes of Ultralytics: told by its note, or by as many names as make it no detector."""
    n, width = table
    what = "YOLOv8 or YOLO11 with turned boxes"
    if base.levels(width, size_wh) and n > 5 and _is_turned(graph, n - 5):
        yield _match(["xywh scores angle"], n - 5, what)
    elif n <= MOST_QUERIES and width == 7 and graph.task == "obb":
        what = "YOLO26 or YOLOv8 with NMS, with turned boxes"
        yield _match(["xywh score class angle"], None, what, nms=False)


def _is_turned(graph: base.GraphIO, classes: int) -> bool:
    return graph.task == "obb" or (not graph.task and len(graph.labels) == classes)


def _whole_input(shape: tuple[int, ...], size_wh: base.SizeWh) -> bool:
    """Whether planes of this shape [..., h, w] cover the whole input."""
    width, height = size_wh
    return width * shape[-2] == height * shape[-1]


def _table(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its batch and other ones that carry nothing."""
    if len(shape) >= 3:
        return tuple(n for n in shape[1:] if n != 1) if len(shape) > 3 else shape[1:]
    if len(shape) == 2 and shape[0] == 1 and shape[1] not in (4, 5, 6, 7):
        return shape[1:] if shape[1] != 1 else ()
    return () if shape in ((1,), (1, 1)) else shape


def _beside(shape: tuple[int, ...]) -> bool:
    """Whether an output may be left out beside a table: masks, undecoded heads, a count."""
    return len(shape) >= 4 or shape in ((1,), (1, 1))


def _match(
    columns: list[str],
    classes: int | None,
    what: str,
    *,
    nms: bool = True,
    notes: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    image: base.InputDefaults | None = None,
    **more: Any,
) -> base.Match:
    parameters = {"columns": columns, **more, **({} if nms else {"end_to_end": True})}
    return base.Match(classes, parameters, what, image, labels, notes)


# -- one table -------------------------------------------------------------------------------------


def _one_table(
    graph: base.GraphIO,
    size_wh: base.SizeWh,
    shapes: list[tuple[int, ...]],
    table: tuple[int, ...],
) -> Iterator[base.Match]:
    rest = ["count" if len(s) < 3 else IGNORED for s in shapes[1:]]
    fours = [i for i, s in enumerate(shapes[1:]) if len(s) == 4]
    masks = shapes[1 + fours[0]][1] if len(fours) == 1 else 0  # several are undecoded heads
    if masks and _whole_input(shapes[1 + fours[0]], size_wh):
        rest[fours[0]] = PROTOTYPES
    n, width = table
    if base.levels(width, size_wh) and (masks or graph.task != "segment"):
        yield from _cells(graph, n, masks, rest, turned=True)
    if base.levels(n, size_wh):
        yield from _cells(graph, width, masks, rest, turned=False)
    elif base.levels(n, size_wh, 3):
        yield from _anchors(width, masks, rest)
    elif n <= MOST_QUERIES or len(shapes[0]) != 3:
        yield from _after_nms(graph, shapes, table, rest, masks)
        classes = width - 4
        if len(shapes) == 1 and len(shapes[0]) == 3 and classes > 0 and _named(graph, classes):
            columns = ["xywh scores"]
            image = STRETCHED
            yield _match(columns, classes, "RT-DETR", nms=False, units=SHARES, image=image)


def _coefficients(masks: int, rest: list[str]) -> tuple[str, tuple[str, ...]]:
    """The columns of so many mask coefficients, and what is told of them."""
    if PROTOTYPES in rest:
        return f"coefficients:{masks}", ()
    return f"skip:{masks}", (NO_MASKS,)


def _named(graph: base.GraphIO, classes: int) -> bool:
    return not graph.labels or len(graph.labels) == classes


def _points(graph: base.GraphIO) -> tuple[tuple[int, ...], ...]:
    """The sizes that keypoints may have: as noted, or as is usual; none of a detector."""
    if graph.task == "detect" or graph.task == "segment":
        return ()
    try:
        noted = ast.literal_eval(graph.metadata.get("kpt_shape", ""))
        return ((int(noted[0]), int(noted[1])),)
    except (ValueError, SyntaxError, TypeError, IndexError):
        return POINTS


def _point_names(graph: base.GraphIO, count: int, labels: tuple[str, ...]) -> dict[str, Any]:
    """Names of keypoints: as noted, or COCO's of people; none where nobody says what they are."""
    try:
        noted = ast.literal_eval(graph.metadata.get("kpt_names", ""))
        names = list(next(iter(noted.values())) if isinstance(noted, dict) else noted)
        if len(names) == count and all(isinstance(name, str) for name in names):
            return {"point_names": names}
    except (ValueError, SyntaxError, TypeError, StopIteration):
        pass
    people = count == 17 and (graph.labels or labels) == ("person",)
    return {"point_names": [*COCO17]} if people else {}


def _cells(
    graph: base.GraphIO, width: int, masks: int, rest: list[str], *, turned: bool
) -> Iterator[base.Match]:
    """YOLOv8 and those after it, without NMS, with more than a detector's columns, or turned."""
    classes = width - 4 - masks
    if masks and classes > 0 and _named(graph, classes):
        words, notes = _coefficients(masks, rest)
        yield _match([f"xywh scores {words}", *rest], classes, "YOLOv8 with masks", notes=notes)
    elif not masks and classes > 0 and graph.task in ("", "detect"):
        if rest and turned:
            yield _match(["xywh scores", *rest], classes, "YOLOv8")
        elif not turned and (len(graph.labels) or 80) == classes:
            yield _match(["xywh scores", *rest], classes, "YOLOv8, turned")
    if masks or rest:
        return
    for count, each in _points(graph):
        classes = width - 4 - count * each
        if classes > 0 and _named(graph, classes) and (graph.labels or classes == 1):
            labels = ("person",) if count == 17 else ("face",) if count == 5 else ()
            columns = [f"xywh scores points:{count}x{each}"]
            what, labels = f"YOLOv8 with {count} keypoints", labels if classes == 1 else ()
            names = _point_names(graph, count, labels)
            yield _match(columns, classes, what, labels=labels, **names)


def _anchors(width: int, masks: int, rest: list[str]) -> Iterator[base.Match]:
    """YOLOv5 and YOLOv7 with three anchors a cell and more than a detector's columns."""
    if masks:
        classes = width - 5 - masks
        if classes > 0:
            words, notes = _coefficients(masks, rest)
            columns = [f"xywh object scores {words}", *rest]
            yield _match(columns, classes, "YOLOv5 with masks", notes=notes)
    elif rest:
        if width > 5:  # beside its undecoded heads
            yield _match(["xywh object scores", *rest], width - 5, "YOLOv5 or YOLOv7")
    elif width == 16:
        yield _match(["xywh object points:5x2 scores"], 1, "YOLOv5-face", labels=("face",))
    elif width == 21:
        yield _match(["xywh object scores points:5x3"], 1, "YOLOv7-face", labels=("face",))
    elif width == 57:
        columns, names = ["xywh object scores points:17x3"], [*COCO17]
        yield _match(columns, 1, "YOLOv7-pose", labels=("person",), point_names=names)


def is_yolov8(graph: base.GraphIO, rows: int) -> bool:
    """Whether [1, rows, 6] in pixels is Ultralytics' own, which the family yolov8 has."""
    return rows == 300 or bool({"names", "end2end"} & {*graph.metadata})


def _after_nms(
    graph: base.GraphIO,
    shapes: list[tuple[int, ...]],
    table: tuple[int, ...],
    rest: list[str],
    masks: int,
) -> Iterator[base.Match]:
    n, width = table
    e2e = "YOLOv8 with NMS, YOLOv10 or YOLO26"
    if width == 6:
        if not rest:
            yield _match(["xyxy score class"], None, f"{e2e}, in shares", nms=False, units=SHARES)
            columns = ["xywh score class"]
            what = "RT-DETR by Ultralytics"
            yield _match(columns, None, what, nms=False, units=SHARES, image=STRETCHED)
            if not is_yolov8(graph, n):
                yield _match(["xyxy score class"], None, e2e, nms=False)
        what = "PaddleDetection with NMS"
        columns = ["class score xyxy", *rest]
        if n == 300:
            yield _match(columns, None, "PaddleDetection's RT-DETR", nms=False, image=STRETCHED)
        else:
            yield _match(columns, None, what, nms=False, image=IMAGENET, notes=(PADDLE,))
    elif width == 7:
        what = "YOLOv7 with NMS"
        yield _match(["skip:1 xyxy class score", *rest], None, what, nms=False)
        columns = ["skip:1 class score xyxy", *rest]
        yield _match(columns, None, "SSD", nms=False, units=SHARES, image=STRETCHED)
    elif masks and width == 6 + masks:
        words, notes = _coefficients(masks, rest)
        columns = [f"xyxy score class {words}", *rest]
        yield _match(columns, None, f"{e2e}, with masks", nms=False, notes=notes)
    elif not rest and len(shapes[0]) == 3:
        for count, each in _points(graph):
            if width == 6 + count * each:
                columns = [f"xyxy score class points:{count}x{each}"]
                labels = ("person",) if count == 17 else ()
                what, names = f"{e2e}, with keypoints", _point_names(graph, count, labels)
                yield _match(columns, None, what, nms=False, labels=labels, **names)


# -- boxes and scores apart ------------------------------------------------------------------------


def _several(
    graph: base.GraphIO,
    size_wh: base.SizeWh,
    shapes: list[tuple[int, ...]],
    tables: list[tuple[int, ...]],
) -> Iterator[base.Match]:
    names = [tensor.name.lower() for tensor in graph.outputs]
    fours = [i for i, t in enumerate(tables) if len(t) == 2 and t[1] == 4]
    fives = [i for i, t in enumerate(tables) if len(t) == 2 and t[1] == 5]
    columns = ["count" if t == () and "num" in names[i] else IGNORED for i, t in enumerate(tables)]
    boxes = {tables[i][0] for i in (*fours, *fives)}
    planes = [i for i, shape in enumerate(shapes) if len(shape) == 4 and shape[-2] > 1]
    masks = [i for i in planes if tables[i][0] in boxes and _whole_input(shapes[i], size_wh)]
    notes = () if {*planes} <= {*masks, *fours, *fives} else (NO_MASKS,)
    # as probabilities or as logits; the values of a run tell which
    for kind in (MASKS, MASK_LOGITS) if len(masks) == 1 == len(planes) else ("",):
        done = [*columns]
        if kind:
            done[masks[0]] = kind
        yield from _apart(graph, names, tables, done, (fours, fives), notes)


def _apart(
    graph: base.GraphIO,
    names: list[str],
    tables: list[tuple[int, ...]],
    columns: list[str],
    boxes: tuple[list[int], list[int]],
    notes: tuple[str, ...],
) -> Iterator[base.Match]:
    """The ways to read these outputs, of which ``boxes`` may have 4 columns, or 5 with a score."""
    fours, fives = boxes
    if len(fives) == 1:
        yield from _mmdeploy(graph, tables, columns, fives[0], notes)
    for box in fours:
        n = tables[box][0]
        vectors = [i for i, t in enumerate(tables) if t == (n,)]
        others = [i for i, t in enumerate(tables) if i != box and len(t) == 2 and n in t]
        if len(vectors) == 2 and not others:
            yield from _three(graph, names, columns, box, vectors, notes)
        elif len(others) == 1 and not vectors and len(fours) == 1 + (tables[others[0]][1] == 4):
            width = tables[others[0]][tables[others[0]][0] == n]
            yield from _scores(graph, columns, box, others[0], width, n, notes)


def _mmdeploy(
    graph: base.GraphIO,
    tables: list[tuple[int, ...]],
    columns: list[str],
    box: int,
    notes: tuple[str, ...],
) -> Iterator[base.Match]:
    columns, n = [*columns], tables[box][0]
    columns[box] = "xyxy score"
    vectors = [i for i, t in enumerate(tables) if t == (n,)]
    points = [i for i, t in enumerate(tables) if len(t) == 3 and t[0] == n and t[2] in (2, 3)]
    if len(vectors) == 1:
        columns[vectors[0]] = "class"
        yield _match(columns, None, "RTMDet by MMDeploy", nms=False, image=MMDET, notes=notes)
    elif len(points) == 1 and not vectors:
        count, each = tables[points[0]][1:]
        columns[points[0]] = f"points:{count}x{each}"
        labels = ("person",) if count == 17 else ()
        names = _point_names(graph, count, labels)
        what = "RTMO by MMDeploy"
        yield _match(columns, 1, what, nms=False, image=MMDET, labels=labels, **names)


def _three(
    graph: base.GraphIO,
    names: list[str],
    columns: list[str],
    box: int,
    vectors: list[int],
    notes: tuple[str, ...],
) -> Iterator[base.Match]:
    """Boxes, scores and classes after NMS: TensorFlow's, torchvision's, D-FINE's, EfficientNMS."""
    tensorflow = any("detection_boxes" in name for name in names)
    kinds = [_kind(names[i], graph.outputs[i].dtype) for i in vectors]
    for score, number in permutations(range(2)):
        if kinds[score] == "class" or kinds[number] == "score":
            continue
        done = [*columns]
        done[vectors[score]], done[vectors[number]] = "score", "class"
        if tensorflow or graph.nhwc:
            done[box] = "yxyx"
            what, told = "SSD or EfficientDet of TensorFlow", () if tensorflow else (YX,)
            for unit, first in product((SHARES, "pixels"), (1, 0)):
                if not tensorflow or (unit, first) == (SHARES, 1):
                    yield _match(done, None, what, nms=False, units=unit, first_class=first,
                                 image=PLAIN, notes=(*notes, *told))  # fmt: skip
            continue
        done[box] = "xyxy"
        if len(graph.outputs[box].shape) == 2:  # of one picture, and counted from 1
            yield _match(done, None, "torchvision's", nms=False, notes=notes, first_class=1)
            continue
        what = "EfficientNMS" if "count" in columns else "RT-DETR, D-FINE or DEIM"
        image = {} if "count" in columns else STRETCHED
        for unit in ("pixels", SHARES):
            yield _match(done, None, what, nms=False, units=unit, image=image, notes=notes)


def _kind(name: str, dtype: str) -> str:
    """Whether an output is "score" or "class" by its name or type; "" if it may be both."""
    if "score" in name or "conf" in name or "prob" in name:
        return "score"
    if "int" in dtype or "label" in name or "class" in name:
        return "class"
    return ""


def _scores(
    graph: base.GraphIO,
    columns: list[str],
    box: int,
    other: int,
    width: int,
    n: int,
    notes: tuple[str, ...],
) -> Iterator[base.Match]:
    """Boxes and a score a class: transformers' queries, and heads without NMS."""
    turned = graph.outputs[other].shape[-1] == n
    for kind, unit in product(("xywh", "xyxy"), ("pixels", SHARES)):
        query = n <= MOST_QUERIES and unit == SHARES and kind == "xywh"
        what, image = "boxes and scores apart", base.InputDefaults()
        if query:
            what, image = "RF-DETR or DETR", IMAGENET
            if n == 300 and "pred_boxes" in graph.outputs[box].name:
                what, image = "RT-DETR or D-FINE of Transformers", STRETCHED
        elif turned:
            what, image, notes = "PP-YOLOE or PicoDet without NMS", IMAGENET, (*notes, PADDLE)
        elif (kind, unit) == ("xyxy", "pixels"):
            what, image = ("YOLO-NAS", image) if box < other else ("DAMO-YOLO", PLAIN)
        done = [*columns]
        done[box], done[other] = kind, "scores"
        softmax = "logits" in graph.outputs[other].name
        for activation, first, classes in _readings(graph, width, query, softmax):
            if _named(graph, classes):
                yield _match(done, classes, what, nms=not query, units=unit, image=image,
                             activation=activation, first_class=first, notes=notes)  # fmt: skip


def _readings(
    graph: base.GraphIO, width: int, query: bool, softmax: bool
) -> Iterator[tuple[str, int, int]]:
    """Activation, first class and number of classes that so many columns of scores may have.

    ``softmax``: a transformer with a column more than classes has it for the background (DETR);
    else that column says nothing (RF-DETR).
    """
    if query and width == (len(graph.labels) or 91) + 1:
        activation = "softmax" if softmax else "sigmoid"
        yield (activation, 0, width - 1) if graph.labels else (activation, 1, 90)
    elif query and width == 91 and len(graph.labels) in (0, 90):  # COCO's ids begin at 1
        yield "sigmoid", 1, 90
        yield "none", 1, 90
    else:
        yield "none", 0, width
        yield "sigmoid", 0, width
        if width > 1:
            yield "none", 1, width - 1
