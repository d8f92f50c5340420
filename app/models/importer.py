"""An ONNX file without a manifest becomes a model on the shelf: graph, family, draft, copy."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from .families import FAMILIES
from .families.base import Family, GraphIO, Match, SizeWh, TensorInfo
from .manifest import (
    SHELF_DIR,
    InputSpec,
    Model,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
    read_labels,
)
from .onnx_session import one_line, open_session

COCO80 = "coco80.txt"


def draft_spec(
    path: Path,
    *,
    family: str | None = None,
    labels: Sequence[str] | None = None,
    size_wh: SizeWh | None = None,
) -> ModelSpec:
    """A spec from the graph alone, with its family's customary input. Runs the graph once.

    Raises ModelError where a doubt remains, or where ``family`` or ``labels`` contradict the graph.
    """
    where = str(path)
    session = open_session(path, optimise=False)
    graph = _graph(session)
    size_wh = input_size(graph, size_wh, where=where)
    outputs = _blank_run(session, size_wh, where)
    shapes = tuple(TensorInfo(name, a.shape, str(a.dtype)) for name, a in outputs.items())
    found, match = recognise(replace(graph, outputs=shapes), size_wh, where=where)
    if family not in (None, found.name):
        raise ModelError(f"{where} is {found.name} by its outputs, not {family}")
    if why := found.doubt(outputs):
        raise ModelError(f"{where} has the outputs of {found.name}, but {why}")
    return ModelSpec(
        name=path.stem,
        file=path.name,
        input=InputSpec(size_wh, **found.input),
        family=found.name,
        labels=tuple(_labels(found, match, graph, labels, where=where)),
        licence=graph.metadata.get("license", ""),
        description=graph.metadata.get("description", ""),
        score=found.score,
        parameters=match.parameters,
    )


def read_graph(path: Path) -> GraphIO:
    """Inputs, outputs and metadata of an ONNX file. Raises ModelError, in one line."""
    return _graph(open_session(path, optimise=False))


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
    noted = _literal(graph.metadata.get("imgsz", ""))
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


def recognise(graph: GraphIO, size_wh: SizeWh, *, where: str) -> tuple[Family, Match]:
    """The one family that fits the shapes of the outputs for this input size.

    Raises ModelError unless exactly one does; dynamic output dimensions fit none.
    """
    task = graph.metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(f"{where} was exported for the task {task!r}; only 'detect' can be run")
    fits = [(family, m) for family in FAMILIES if (m := family.recognise(graph, size_wh))]
    if len(fits) == 1:
        return fits[0]
    outputs = "; ".join(map(str, graph.outputs))
    known = ", ".join(f"{family.title} {family.outputs}" for family in FAMILIES)
    alike = " and ".join(family.title for family, _ in fits)
    verdict = f"fits {alike} alike" if fits else "is no detector I know"
    raise ModelError(
        f"{where} {verdict}: at input {size_wh[0]}x{size_wh[1]} its outputs are {outputs}. "
        f"Known are, with N cells and C classes: {known}. See models/README.md"
    )


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


def _graph(session: Any) -> GraphIO:
    return GraphIO(
        inputs=tuple(map(_info, session.get_inputs())),
        outputs=tuple(map(_info, session.get_outputs())),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def _info(tensor: Any) -> TensorInfo:
    shape = tuple(n if isinstance(n, int) else None for n in tensor.shape)
    return TensorInfo(tensor.name, shape, tensor.type)


def _blank_run(session: Any, size_wh: SizeWh, where: str) -> dict[str, NDArray[Any]]:
    """The outputs, by name, for one evenly gray tensor."""
    tensor = session.get_inputs()[0]
    dtype = np.float16 if tensor.type == "tensor(float16)" else np.float32
    try:
        blank = np.full((1, 3, size_wh[1], size_wh[0]), 0.5, dtype)
        arrays = session.run(None, {tensor.name: blank})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        at = f"{size_wh[0]}x{size_wh[1]}"
        raise ModelError(f"{where} does not run at {at}: {one_line(fault)}") from fault
    return dict(zip([t.name for t in session.get_outputs()], arrays, strict=True))


def _literal(text: str) -> object:
    """A Python literal in an exporter's note (``names``, ``imgsz``), or None."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _labels(
    family: Family, match: Match, graph: GraphIO, given: Sequence[str] | None, *, where: str
) -> Sequence[str]:
    noted = _literal(graph.metadata.get("names", ""))
    if isinstance(noted, dict):
        noted = [noted.get(i) for i in range(len(noted))]
    labels: Sequence[str]
    if given:
        labels = given
    elif isinstance(noted, list) and noted and all(isinstance(v, str) for v in noted):
        labels = noted
    elif match.classes == 80:
        labels = read_labels(SHELF_DIR / COCO80)
    elif family.labels:
        labels = family.labels
    else:
        raise ModelError(
            f"{where} is {family.name} and does not name its classes "
            f"({match.classes or 'their number is hidden'}); write them down: "
            f"`python -m app models add {where} --family {family.name} --labels FILE_OR_CSV`"
        )
    if match.classes not in (None, len(labels)):
        raise ModelError(
            f"{where}: classes in the graph: {match.classes}, labels given: {len(labels)}"
        )
    return labels
