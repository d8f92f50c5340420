"""What manifest fits an ONNX file that has none, and how does it get onto the shelf?"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import ConfigError, ModelError
from app.model_spec import Family, InputSpec, ModelSpec, parse_manifest
from app.recognise import (
    GraphIO,
    Recognised,
    TensorInfo,
    doubt,
    input_size,
    literal,
    recognise,
)
from app.shelf.manifest import SHELF_DIR, Model, format_manifest, parse_toml, read_labels

COCO80 = "coco80.txt"

# What each family's own exports expect; see the convention in app/model_spec.py.
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
    from app.backends.graph_io import blank_run, read_graph

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
    from app.backends.graph_io import read_graph

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
        labels = read_labels(SHELF_DIR / COCO80)
    elif found.classes == 1 and found.family in ("yunet", "ultraface"):
        labels = ["face"]
    else:
        raise ModelError(
            f"{where} is {found.family} and does not name its classes "
            f"({found.classes or 'their number is hidden'}); write them down: "
            f"`python -m app models add {where} --family {found.family} --labels FILE_OR_CSV`"
        )
    if found.classes not in (None, len(labels)):
        raise ModelError(
            f"{where}: classes in the graph: {found.classes}, labels given: {len(labels)}"
        )
    return labels
