"""Which family of detector is this graph? Told from its inputs and outputs, or not at all."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.model_spec import Family

STRIDES = (8, 16, 32)
SizeWh = tuple[int, int]
Body = tuple[int | None, ...]  # a tensor's shape without its batch


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output. A dynamic dimension is None; ``dtype`` reads like "tensor(float)"."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class GraphIO:
    """What a graph takes and gives, in its own order, and the exporter's notes."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recognised:
    """``parameters`` as in [decoder]; ``classes`` is None where NMS in the graph hides them."""

    family: Family
    classes: int | None
    parameters: Mapping[str, Any]


def input_size(graph: GraphIO, asked_wh: SizeWh | None, *, where: str) -> SizeWh:
    """The input's (width, height): as the graph fixes it, as asked, or as the exporter noted."""
    only = graph.inputs[0] if len(graph.inputs) == 1 else None
    if (
        only is None
        or only.dtype not in ("tensor(float)", "tensor(float16)")
        or len(only.shape) != 4
        or only.shape[0] not in (1, None)
        or only.shape[1] not in (3, None)
    ):
        seen = "; ".join(f"{t} {t.dtype}" for t in graph.inputs)
        raise ModelError(
            f"{where}: input is {seen}; a network must have one float input "
            "[1, 3, height, width] (NCHW): export it so"
        )
    h, w = only.shape[2:]
    noted = literal(graph.metadata.get("imgsz", ""))
    match noted:
        case [int(noted_h), int(noted_w)] if asked_wh is None:
            asked_wh = (w or noted_w, h or noted_h)
    if asked_wh is None and (w is None or h is None):
        raise ModelError(
            f"{where}: its input, {only}, takes any size; say which: "
            f"`python -m app models add {where} --size 640x384`"
        )
    wh = asked_wh or (w or 0, h or 0)
    if (w or wh[0], h or wh[1]) != wh:
        raise ModelError(f"{where}: size {wh[0]}x{wh[1]} asked for, but the input is fixed: {only}")
    return wh


def recognise(graph: GraphIO, size_wh: SizeWh, *, where: str) -> Recognised:
    """Family, classes and decoder parameters by the shapes of the outputs for this input size.

    Raises ModelError unless exactly one family fits; dynamic output dimensions fit none.
    """
    task = graph.metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"{where} was exported for the task {task!r}; only 'detect' can be run")
    fits = [f for match in _MATCHERS if (f := match(graph, size_wh))]
    if len(fits) == 1:
        return fits[0]
    outputs = "; ".join(map(str, graph.outputs))
    known = ", ".join(f"{name} {form}" for name, form in FORMS.items())
    verdict = (
        f"fits {' and '.join(f.family for f in fits)} alike" if fits else "is no detector I know"
    )
    raise ModelError(
        f"{where} {verdict}: at input {size_wh[0]}x{size_wh[1]} its outputs are {outputs}. "
        f"Known are, with N cells and C classes: {known}. See models/README.md"
    )


def doubt(found: Recognised, outputs: Mapping[str, NDArray[Any]]) -> str | None:
    """What the values of one run say against the family: other exports can have its shapes."""
    first = next(iter(outputs.values()))[0].astype(np.float32)
    boxes: NDArray[Any] | None = None
    match found.family:
        case "yolox" | "yolov5":
            boxes, scores = first[:, :4], [first[:, 4:]]
        case "yolov8" if found.parameters.get("end_to_end"):
            scores = [first[:, 4]]
        case "yolov8":
            boxes, scores = first[:4], [first[4:]]
        case "nanodet":
            scores = list(outputs.values())[: len(STRIDES)]
        case "fastestdet":
            scores = [first[:1], first[5:]]
        case "yunet":
            scores = [v for k, v in outputs.items() if k.startswith(("cls", "obj"))]
        case "ultraface":
            scores, corners = [outputs["scores"]], outputs["boxes"][0]
            if (corners[:, 2:] <= corners[:, :2]).any():
                return "its boxes are not decoded in the graph: use the file with postprocessing"
    low, high = min(float(s.min()) for s in scores), max(float(s.max()) for s in scores)
    if not (low >= -0.01 and high <= 1.01):
        return f"its scores run from {low:.3g} to {high:.3g}: export it with sigmoid or softmax"
    if boxes is None:
        return None
    furthest = float(np.abs(boxes).max())
    if found.family == "yolox" and furthest >= STRIDES[-1]:
        return "its boxes are decoded in the graph already: export YOLOX without decoding"
    if found.family != "yolox" and furthest <= 2:
        return "its boxes are not in pixels of the input: export it to ONNX with decoded boxes"
    return None


def literal(text: str) -> object:
    """A Python literal in an exporter's note (``names``, ``imgsz``), or None."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


# How the outputs look, for messages.
FORMS: dict[Family, str] = {
    "yolox": "[1, N, 5+C]",
    "yolov5": "[1, 3N, 5+C]",
    "yolov8": "[1, 4+C, N] or, with NMS inside, [1, 300, 6]",
    "nanodet": "3x [1, n, C] and 3x [1, n, 4R]",
    "fastestdet": "[1, 5+C, H/16, W/16]",
    "yunet": "cls_8 … kps_32",
    "ultraface": "scores [1, n, 2] and boxes [1, n, 4]",
}


def _cells(size_wh: SizeWh, strides: Sequence[int] = STRIDES) -> list[int]:
    w, h = size_wh
    return [-(-w // s) * -(-h // s) for s in strides]


def _bodies(graph: GraphIO) -> list[Body]:
    return [t.shape[1:] if t.shape[:1] == (1,) else () for t in graph.outputs]


def _matrix(graph: GraphIO) -> tuple[int, int]:
    """Rows and columns of a single output [1, rows, columns]; (0, 0) if it is another shape."""
    match _bodies(graph):
        case [(int(rows), int(columns))]:
            return rows, columns
    return 0, 0


def _yolox(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    rows, columns = _matrix(graph)
    fits = rows == sum(_cells(size_wh)) and columns > 5
    return Recognised("yolox", columns - 5, {"strides": list(STRIDES)}) if fits else None


def _yolov5(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    rows, columns = _matrix(graph)
    fits = rows == 3 * sum(_cells(size_wh)) and columns > 5
    return Recognised("yolov5", columns - 5, {}) if fits else None


def _yolov8(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    (rows, columns), n = _matrix(graph), sum(_cells(size_wh))
    if columns == n and rows > 4:
        return Recognised("yolov8", rows - 4, {})
    survivors = rows == 300 or ("names" in graph.metadata and rows not in (n, 3 * n))
    return Recognised("yolov8", None, {"end_to_end": True}) if columns == 6 and survivors else None


def _nanodet(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    bodies, cells = _bodies(graph), _cells(size_wh)
    if len(bodies) != 6 or any(len(b) != 2 for b in bodies) or [b[0] for b in bodies] != cells * 2:
        return None
    (classes, *more_c), (bins, *more_b) = [b[1] for b in bodies[:3]], [b[1] for b in bodies[3:]]
    if set(more_c) != {classes} or set(more_b) != {bins} or not classes or not bins or bins % 4:
        return None
    parameters = {"strides": list(STRIDES), "reg_max": bins // 4 - 1}
    return Recognised("nanodet", classes, parameters) if bins >= 8 else None


def _fastestdet(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    (w, h), bodies = size_wh, _bodies(graph)
    if len(bodies) != 1 or bodies[0][1:] != (-(-h // 16), -(-w // 16)) or (bodies[0][0] or 0) < 6:
        return None
    return Recognised("fastestdet", (bodies[0][0] or 0) - 5, {})


def _yunet(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    widths = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    cells = zip(STRIDES, _cells(size_wh), strict=True)
    wanted = {f"{k}_{s}": (n, c) for s, n in cells for k, c in widths.items()}
    bodies = {t.name: b for t, b in zip(graph.outputs, _bodies(graph), strict=True)}
    return Recognised("yunet", 1, {"strides": list(STRIDES)}) if bodies == wanted else None


def _ultraface(graph: GraphIO, size_wh: SizeWh) -> Recognised | None:
    anchors = (3, 2, 2, 3)
    n = sum(a * c for a, c in zip(anchors, _cells(size_wh, (*STRIDES, 64)), strict=True))
    bodies = {t.name: b for t, b in zip(graph.outputs, _bodies(graph), strict=True)}
    return Recognised("ultraface", 1, {}) if bodies == {"scores": (n, 2), "boxes": (n, 4)} else None


_MATCHERS: tuple[Callable[[GraphIO, SizeWh], Recognised | None], ...]
_MATCHERS = (_yolox, _yolov5, _yolov8, _nanodet, _fastestdet, _yunet, _ultraface)
