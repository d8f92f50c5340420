"""An ONNX file without a manifest becomes a model on the shelf: graph, family, draft, copy."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, ModelError
from ..core.package import COMMAND, data_folder
from .adapt import Form, plain, read_form, tensor_info
from .engine_file import is_engine
from .families import FAMILIES
from .families.base import (
    COCO_GAPS,
    Family,
    GraphIO,
    InputDefaults,
    Match,
    SizeWh,
    TensorInfo,
)
from .manifest import (
    SHELF_DIR,
    SHIPPED_DIR,
    InputSpec,
    Model,
    ModelSpec,
    format_manifest,
    parse_manifest,
    parse_toml,
    read_labels,
)
from .onnx_session import network_io, one_line, open_session

log = logging.getLogger(__name__)

COCO80 = "coco80.txt"
EXPORT = "Export it with decoded boxes and scores from 0 to 1"
TASKS = ("detect", "segment", "pose", "obb", "classify")


def draft_model(
    path: Path,
    *,
    family: str | None = None,
    labels: Sequence[str] | None = None,
    size_wh: SizeWh | None = None,
    tidy: bool = False,
) -> Model:
    """A model from the graph alone, with its family's customary input. Runs the graph some times.

    Its weights are ``path`` itself, or a copy in the cache of what no engine could take as it is;
    ``tidy``: also of what would only be slower, or lies in two files. With ``family`` a doubt is
    told and passed over. Raises ModelError where a doubt remains, or where ``family`` or ``labels``
    contradict the graph.
    """
    where = str(path)
    session = open_session(path, optimise=False)
    form = read_form(session, path)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    size_wh = input_size(form.image, metadata, size_wh, where=where)
    weights, frames = path, 1
    if not form.is_plain or (tidy and (form.loose or form.second_file)):
        weights, frames = plain(path, form, size_wh)
        session = open_session(weights, optimise=False)
    named = tuple(labels or _noted_labels(metadata))
    graph = replace(_graph(session), metadata=metadata, labels=named, nhwc=form.nhwc)
    blank = _run(session, np.full((1, 3, *reversed(size_wh)), 0.5, np.float32), where)
    shapes = tuple(TensorInfo(name, a.shape, str(a.dtype)) for name, a in blank.items())
    shapes = tuple(
        replace(shape, dtype=told.type)
        for shape, told in zip(shapes, session.get_outputs(), strict=True)
    )
    graph = replace(graph, outputs=shapes)
    ways = [(f, m) for f, m in recognise(graph, size_wh, where=where) if family in (None, f.name)]
    if not ways:
        others = dict.fromkeys(f.name for f, _ in recognise(graph, size_wh, where=where))
        raise ModelError(f"{where} is {' or '.join(others)} by its outputs, not {family}")
    counted = [way for way in ways if way[1].classes in (None, len(named))]
    found, match = _undoubted(
        (named and counted) or ways,
        session,
        form,
        size_wh,
        labels=named,
        where=where,
        forced=bool(family),
    )
    for note in match.notes:
        log.warning("%s: %s", where, note)
    if frames > 1:
        told = "%s computes %d frames at once, of which it gets one: export it with a batch of 1"
        log.warning(told, where, frames)
    return Model(
        ModelSpec(
            name=path.stem,
            file=path.name,
            input=_input_spec(found, match, form, size_wh),
            family=found.name,
            labels=tuple(_labels(found, match, named, where=where)),
            licence=metadata.get("license", ""),
            description=metadata.get("description") or match.what,
            score=found.score,
            parameters=match.parameters,
        ),
        weights,
        None,
    )


def prove(spec: ModelSpec, weights: Path) -> None:
    """Raise ModelError unless the outputs for a picture are those that ``spec`` describes."""
    session = open_session(weights, optimise=False)
    spec.decoder(network_io(session, spec).shapes)
    outputs = _run(session, _picture(spec.input), str(weights))
    match = Match(len(spec.labels), spec.detector.complete(spec.parameters))
    if why := spec.detector.doubt(outputs, match, spec.input.size_wh):
        raise ModelError(why)


def read_graph(path: Path) -> GraphIO:
    """Inputs, outputs and metadata of an ONNX file. Raises ModelError, in one line."""
    return _graph(open_session(path, optimise=False))


def input_size(
    image: TensorInfo, metadata: Mapping[str, str], asked_wh: SizeWh | None, *, where: str
) -> SizeWh:
    """The (width, height) of an input [N, C, H, W]: as it is fixed, as asked, or as was noted."""
    h, w = image.shape[2:]
    match _literal(metadata.get("imgsz", "")):
        case [int(noted_h), int(noted_w)] if asked_wh is None:
            asked_wh = (w or noted_w, h or noted_h)
    if asked_wh is None and (w is None or h is None):
        raise ModelError(
            f"{where}: its input, {image}, takes any size; say which: "
            f"`{COMMAND} models add {where} --size 640x384`"
        )
    wh = asked_wh or (w or 0, h or 0)
    if (w or wh[0], h or wh[1]) != wh:
        raise ModelError(
            f"{where}: size {wh[0]}x{wh[1]} asked for, but the input is fixed: {image}"
        )
    return wh


def recognise(graph: GraphIO, size_wh: SizeWh, *, where: str) -> list[tuple[Family, Match]]:
    """All ways to read outputs of these shapes, at this input size.

    Raises ModelError if there is none; dynamic output dimensions fit none.
    """
    if graph.task and graph.task not in TASKS:
        raise ModelError(
            f"{where} was exported for the task {graph.task!r}; only {', '.join(TASKS)} can be run"
        )
    if fits := [(family, m) for family in FAMILIES for m in family.recognise(graph, size_wh)]:
        return fits
    outputs = "; ".join(map(str, graph.outputs))
    known = ", ".join(dict.fromkeys(f"{f.title} {f.outputs}" for f in FAMILIES))
    raise ModelError(
        f"{where} is no detector I know: at input {size_wh[0]}x{size_wh[1]} its outputs are "
        f"{outputs}{_seems(graph)}. Known are, with N cells and C classes: {known}. If it gives "
        "boxes and scores in columns, a manifest can describe them: see models/README.md"
    )


def _seems(graph: GraphIO) -> str:
    """What unknown outputs look like, and the export that would run."""
    shapes = graph.shapes
    anchors = [shape for shape in shapes if len(shape) == 4 and (shape[1] or 0) % 3 == 0]
    bare = len(anchors) == len(shapes) in (2, 3, 4) and len({shape[1] for shape in anchors}) == 1
    if bare or any(len(shape) == 5 and shape[1] == 3 for shape in shapes):
        return (
            ", like the undecoded heads of YOLOv5 or YOLOv7: export with boxes decoded "
            "(`export.py --include onnx`; YOLOv7: `export.py --grid`)"
        )
    if len(shapes) == 1 and len(shapes[0]) == 4:
        return ", like a map of the picture (segmentation, depth): no boxes"
    return ""


def _undoubted(
    ways: Sequence[tuple[Family, Match]],
    session: Any,
    form: Form,
    size_wh: SizeWh,
    *,
    labels: Sequence[str],
    where: str,
    forced: bool,
) -> tuple[Family, Match]:
    """The one way of reading against which the outputs for a picture say nothing."""
    runs: dict[InputSpec, dict[str, NDArray[Any]]] = {}
    good, reasons = [], list[str]()
    for family, match in ways:
        spec = _input_spec(family, match, form, size_wh)
        if spec not in runs:
            runs[spec] = _run(session, _picture(spec), where)
        why = family.doubt(runs[spec], match, size_wh)
        if why is None:
            good.append((family, match))
        else:
            reasons.append(f"as {_title(family, match)}, {why}" if len(ways) > 1 else why)
    usual = [way for way in good if way[1].classes == len(labels or range(80))]
    if len(good) > 1 and len(usual) == 1:  # so many are named, or, where none are, COCO's
        return usual[0]
    special = [way for way in good if way[0].name != "rows"]  # that fits most of what boxes are
    if len(good) == 1 or len(special) == 1:
        return (special or good)[0]
    if good:
        names = " --family ".join(dict.fromkeys(family.name for family, _ in good))
        raise ModelError(
            f"{where} fits {_titles(good)} alike. Say how many classes it has with --labels, or "
            f"which it is: `{COMMAND} models add {where}` with --family {names}"
        )
    if forced:
        log.warning("%s: taken as asked for, though %s", where, reasons[0])
        return ways[0]
    raise ModelError(
        f"{where} has the shapes of {_titles(ways)}, but {'; '.join(dict.fromkeys(reasons))}. "
        f"{ways[0][0].export or EXPORT}; or, if this is wrong, "
        f"`{COMMAND} models add {where} --family {ways[0][0].name}`"
    )


def _title(family: Family, match: Match) -> str:
    return match.what or family.title


def _titles(ways: Sequence[tuple[Family, Match]]) -> str:
    return " and ".join(dict.fromkeys(_title(*way) for way in ways))


def _input_spec(family: Family, match: Match, form: Form, size_wh: SizeWh) -> InputSpec:
    """What the picture becomes: as the family or the exporter has it, within what the file takes.

    A file that takes bytes normalises them itself; one that takes gray is given it from BGR.
    """
    defaults: InputDefaults = {**family.input, **(match.input or {})}
    if form.image.dtype == "tensor(uint8)":
        defaults = {**defaults, "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    if form.channels == 1:
        defaults = {**defaults, "channels": "BGR"}
    return InputSpec(size_wh, **defaults)


def _picture(spec: InputSpec) -> NDArray[np.float32]:
    """A real picture as the network gets it: garbage from weights would be no evidence."""
    import cv2  # here, as whoever lists the shelf would pay for it

    path = data_folder("models") / "pictures" / "plain.jpg"
    pixels = cv2.imread(str(path)) if path.is_file() else None
    if pixels is None:
        raise ModelError(f"{path} is missing or no picture: install Kestrel again")
    pixels = cv2.resize(pixels, spec.size_wh, interpolation=cv2.INTER_AREA)
    if spec.channels == "RGB":
        pixels = pixels[:, :, ::-1]
    scaled = pixels.astype(np.float32) * spec.scale
    normal = (scaled - np.array(spec.mean)) / np.array(spec.std)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None].astype(np.float32))


def install(spec: ModelSpec, weights: Path, *, shelf_dir: Path = SHELF_DIR, force: bool) -> Model:
    """Copy the weights to the shelf as NAME.onnx (.engine) and write NAME.toml. Existing ones need
    ``force``.

    Both appear whole or not at all. Raises ConfigError or ModelError.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", spec.name, re.ASCII):
        raise ConfigError(f"{spec.name!r} is no name for a model: use letters, digits and _ . -")
    suffix = weights.suffix.lower() if is_engine(weights) else ".onnx"
    manifest, target = shelf_dir / f"{spec.name}.toml", shelf_dir / f"{spec.name}{suffix}"
    in_place = target.exists() and target.samefile(weights)
    for path in (manifest,) if in_place else (manifest, target):
        if path.exists() and not force:
            raise ConfigError(f"{path} exists: choose another --name, or replace it with --force")
    part = target.with_name(target.name + ".part")
    try:
        shelf_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, part)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        spec = replace(spec, file=target.name, sha256=digest, untried=False, tidy=False)
        spec = replace(spec, git_blob=None, size_bytes=None)
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
    if not is_engine(Path(spec.file)):
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
        inputs=tuple(map(tensor_info, session.get_inputs())),
        outputs=tuple(map(tensor_info, session.get_outputs())),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def _run(session: Any, tensor: NDArray[np.float32], where: str) -> dict[str, NDArray[Any]]:
    """The outputs, by name."""
    try:
        arrays = session.run(None, {session.get_inputs()[0].name: tensor})
    except Exception as fault:  # ONNX Runtime's own errors have no common root
        at = f"{tensor.shape[3]}x{tensor.shape[2]}"
        raise ModelError(f"{where} does not run at {at}: {one_line(fault)}") from fault
    outputs = dict(zip([t.name for t in session.get_outputs()], arrays, strict=True))
    for name, array in outputs.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ModelError(f"{where} is no detector I know: its output {name} is not of numbers")
    return outputs


def _literal(text: str) -> object:
    """A Python literal in an exporter's note (``names``, ``imgsz``), or None."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _noted_labels(metadata: Mapping[str, str]) -> Sequence[str]:
    """The classes as the exporter notes them, or none."""
    noted = _literal(metadata.get("names", ""))
    if isinstance(noted, dict):
        noted = [noted.get(i) for i in range(len(noted))]
    if isinstance(noted, list) and noted and all(isinstance(v, str) for v in noted):
        return noted
    return ()


def _labels(family: Family, match: Match, named: Sequence[str], *, where: str) -> Sequence[str]:
    labels = named or match.labels or family.labels
    if not labels and match.classes in (80, 90, None):
        labels = read_labels(SHIPPED_DIR / COCO80)
        if match.classes == 90 or (match.classes is None and match.parameters.get("first_class")):
            for number in COCO_GAPS:  # these numbers are never given
                labels.insert(number - 1, f"class {number}")
        if match.classes is None:
            told = (
                "%s names no classes: taken for COCO's %d; if they are others, --labels FILE_OR_CSV"
            )
            log.warning(told, where, len(labels))
    if not labels:
        raise ModelError(
            f"{where} is {_title(family, match)} and does not name its classes "
            f"({match.classes}); write them down: "
            f"`{COMMAND} models add {where} --family {family.name} --labels FILE_OR_CSV`"
        )
    if match.classes not in (None, len(labels)):
        raise ModelError(
            f"{where}: classes in the graph: {match.classes}, labels given: {len(labels)}"
        )
    return labels
