"""TensorRT engines that were built elsewhere: a plan, with what its exporter wrote before it.

Ultralytics' exporter writes the length of a JSON text (4 bytes, little-endian), the text, and then
the plan: https://docs.ultralytics.com/reference/utils/export/engine/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ModelError
from ..core.package import COMMAND
from .families import FAMILY_NAMES, find_family
from .manifest import InputSpec, Model, ModelSpec

SUFFIXES = (".engine", ".plan")
LARGEST_NOTE = 1 << 20  # bytes; more is a plan that begins with such a number


class EngineFile(NamedTuple):
    """``metadata``: what the exporter wrote; empty where nothing did."""

    plan: bytes
    metadata: Mapping[str, Any]


def is_engine(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_engine(path: Path) -> EngineFile:
    """Raises ModelError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ModelError(f"cannot read {path}: {fault.strerror}") from fault
    size = int.from_bytes(data[:4], "little")
    if 0 < size <= min(len(data), LARGEST_NOTE):
        try:
            metadata = json.loads(data[4 : 4 + size])
        except ValueError:
            metadata = None
        if isinstance(metadata, dict):
            return EngineFile(data[4 + size :], metadata)
    return EngineFile(data, {})


def draft_engine(
    path: Path,
    *,
    family: str | None = None,
    labels: Sequence[str] | None = None,
    size_wh: tuple[int, int] | None = None,
) -> Model:
    """A model of an engine alone, as its metadata and the caller say.

    Its outputs are known only where it runs, and are checked there. Raises ModelError where
    something is neither noted nor said.
    """
    noted = read_engine(path).metadata
    if noted.get("task", "detect") != "detect":
        raise ModelError(f"{path} was exported for the task {noted['task']!r}, not to detect")
    names = noted.get("names") or {}
    if labels is None and isinstance(names, dict):
        labels = [str(names[key]) for key in sorted(names, key=int)]
    if size_wh is None:
        match noted.get("imgsz"):
            case [int(height), int(width)]:
                size_wh = width, height
    nms = bool(noted.get("end2end") or (noted.get("args") or {}).get("nms"))
    family = family or ("yolov8" if noted else None)
    if not labels or size_wh is None or family is None:
        raise ModelError(
            f"{path} says neither what it finds nor how it is read: `{COMMAND} models add {path} "
            f"--family {'|'.join(FAMILY_NAMES)} --labels FILE --size 640x640`, or keep its "
            "manifest beside it"
        )
    parameters = {"end_to_end": True} if nms and family == "yolov8" else {}
    found = find_family(family, parameters)
    spec = ModelSpec(
        name=path.stem,
        file=path.name,
        input=InputSpec(size_wh, **found.input),
        family=family,
        labels=tuple(labels),
        licence=str(noted.get("license", "")),
        description=str(noted.get("description", "")),
        score=found.score,
        parameters=parameters,
    )
    return Model(spec, path, None)
