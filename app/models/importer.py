"""An ONNX file without a manifest becomes a model on the shelf: graph, family, draft."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from ..core.package import COMMAND
from .manifest import (
    SHELF_DIR,
    SHIPPED_DIR,
    Family,
    InputSpec,
    Model,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
    read_labels,
)
from .onnx_session import one_line, open_session

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
            f"`{COMMAND} models add {where} --size 640x384`"
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


__all__ = ["GraphIO", "TensorInfo", "blank_run", "read_graph"]


def read_graph(path: Path) -> GraphIO:
    """Inputs, outputs and metadata of an ONNX file. Raises ModelError, in one line."""
    session = open_session(path, optimise=False)
    return GraphIO(
        inputs=tuple(_info(t) for t in session.get_inputs()),
        outputs=tuple(_info(t) for t in session.get_outputs()),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def blank_run(path: Path, size_wh: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """The outputs, by name, for one evenly gray tensor of (width, height)."""
    session = open_session(path, optimise=False)
    tensor = session.get_inputs()[0]
    dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
    try:
        blank = np.full((1, 3, size_wh[1], size_wh[0]), 0.5, dtype)
        arrays = session.run(None, {tensor.name: blank})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        at = f"{size_wh[0]}x{size_wh[1]}"
        raise ModelError(f"{path} does not run at {at}: {one_line(fault)}") from fault
    return dict(zip([t.name for t in session.get_outputs()], arrays, strict=True))


def _info(tensor: Any) -> TensorInfo:
    shape = tuple(n if isinstance(n, int) else None for n in tensor.shape)
    return TensorInfo(tensor.name, shape, tensor.type)


COCO80 = "coco80.txt"

# What each family's own exports expect; see the convention in manifest.py.
_IMAGENET = {"mean": (103.53, 116.28, 123.675), "std": (57.375, 57.12, 58.395)}
_CUSTOMARY: dict[Family, dict[str, Any]] = {
    "yolox": {"align": "top-left"},
    "yolov5": {"channels": "RGB", "scale": 1 / 255},
    "yolov8": {"channels": "RGB", "scale": 1 / 255},
    "nanodet": {"pad": 0, **_IMAGENET},
    "fastestdet": {"resize": "stretch", "scale": 1 / 255},
    "yunet": {"align": "top-left", "pad": 0},  # as OpenCV's FaceDetectorYN pads
    "ultraface": {
        "channels": "RGB",
        "resize": "stretch",
        "mean": (127.0, 127.0, 127.0),
        "std": (128.0, 128.0, 128.0),
    },
}
CUSTOMARY_SCORE: dict[Family, float] = {"fastestdet": 0.65, "yunet": 0.6, "ultraface": 0.7}


def draft_spec(
    path: Path,
    *,
    family: str | None = None,
    labels: Sequence[str] | None = None,
    size_wh: tuple[int, int] | None = None,
) -> ModelSpec:
    """A spec from the graph alone, with its family's customary input. Runs the graph once.

    Raises ModelError where a doubt remains, or where ``family`` or ``labels`` contradict the graph.
    """
    # Imported here: manifests are read on machines without ONNX Runtime too.

    where = str(path)
    graph = read_graph(path)
    size_wh = input_size(graph, size_wh, where=where)
    outputs = blank_run(path, size_wh)
    shapes = tuple(TensorInfo(name, a.shape, str(a.dtype)) for name, a in outputs.items())
    found = recognise(replace(graph, outputs=shapes), size_wh, where=where)
    if family not in (None, found.family):
        raise ModelError(f"{where} is {found.family} by its outputs, not {family}")
    if why := doubt(found, outputs):
        raise ModelError(f"{where} has the outputs of {found.family}, but {why}")
    return ModelSpec(
        name=path.stem,
        file=path.name,
        input=customary_input(found.family, size_wh),
        family=found.family,
        labels=tuple(_labels(found, graph, labels, where)),
        licence=graph.metadata.get("license", ""),
        description=graph.metadata.get("description", ""),
        score=CUSTOMARY_SCORE.get(found.family, 0.35),
        parameters=found.parameters,
    )


def customary_input(family: Family, size_wh: tuple[int, int]) -> InputSpec:
    """The preprocessing that the family's exports expect unless their author changed it."""
    return InputSpec(size_wh=size_wh, **_CUSTOMARY[family])


def install(spec: ModelSpec, weights: Path, *, shelf_dir: Path = SHELF_DIR, force: bool) -> Model:
    """Copy the weights to the shelf as NAME.onnx and write NAME.toml. Existing ones need ``force``.

    Both appear whole or not at all. Raises ConfigError or ModelError.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", spec.name, re.ASCII):
        raise ConfigError(f"{spec.name!r} is no name for a model: use letters, digits and _ . -")
    manifest, target = shelf_dir / f"{spec.name}.toml", shelf_dir / f"{spec.name}.onnx"
    in_place = target.exists() and target.samefile(weights)
    for path in (manifest,) if in_place else (manifest, target):
        if path.exists() and not force:
            raise ConfigError(f"{path} exists: choose another --name, or replace it with --force")
    part = target.with_name(target.name + ".part")
    try:
        shelf_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, part)
        spec = replace(spec, file=target.name, sha256=hashlib.sha256(part.read_bytes()).hexdigest())
        text = _checked_manifest(spec, part, shelf_dir)
        new = manifest.with_name(manifest.name + ".part")
        new.write_text(text, "utf-8")
        part.replace(target)
        new.replace(manifest)
    except OSError as fault:
        raise ConfigError(f"cannot write to {shelf_dir}: {fault.strerror}") from fault
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return Model(spec, target, manifest)


def _checked_manifest(spec: ModelSpec, weights: Path, shelf_dir: Path) -> str:
    """The manifest's text, after it was read back and the copied weights were opened."""

    read_graph(weights)
    where = f"{spec.name}.toml"
    written = parse_toml(format_manifest(spec))
    if parse_manifest(written, name=spec.name, where=where) != spec:
        raise ModelError(f"manifest {where} would not read back as written; please report this")
    coco = shelf_dir / COCO80
    shared = coco.is_file() and tuple(read_labels(coco)) == spec.labels
    return format_manifest(spec, labels_file=COCO80 if shared else None)


def _labels(
    found: Recognised, graph: GraphIO, given: Sequence[str] | None, where: str
) -> Sequence[str]:
    noted = literal(graph.metadata.get("names", ""))
    if isinstance(noted, dict):
        noted = [noted.get(i) for i in range(len(noted))]
    if given:
        labels = list(given)
    elif isinstance(noted, list) and noted and all(isinstance(v, str) for v in noted):
        labels = noted
    elif found.classes == 80:
        labels = read_labels(SHIPPED_DIR / COCO80)
    elif found.classes == 1 and found.family in ("yunet", "ultraface"):
        labels = ["face"]
    else:
        raise ModelError(
            f"{where} is {found.family} and does not name its classes "
            f"({found.classes or 'their number is hidden'}); write them down: "
            f"`{COMMAND} models add {where} --family {found.family} --labels FILE_OR_CSV`"
        )
    if found.classes not in (None, len(labels)):
        raise ModelError(
            f"{where}: classes in the graph: {found.classes}, labels given: {len(labels)}"
        )
    return labels
