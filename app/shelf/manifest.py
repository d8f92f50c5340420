"""How does a manifest become a Model, and a ModelSpec a manifest?"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import ModelError
from app.model_spec import ModelSpec, parse_manifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHELF_DIR = Path(__file__).resolve().parents[2] / "models"


@dataclass(frozen=True, slots=True)
class Model:
    """A spec and where its weights lie (or will lie). ``manifest`` is None for a bare ONNX file."""

    spec: ModelSpec
    weights: Path
    manifest: Path | None

    @property
    def ref(self) -> str:
        """What to write on the command line to mean this model."""
        if self.manifest is None:
            return str(self.weights)
        at_home = self.manifest.resolve().parent == SHELF_DIR
        return self.spec.name if at_home else str(self.manifest)


def read_manifest(path: Path) -> Model:
    """Read and check models/NAME.toml and the label file it names. Raises ModelError."""
    try:
        data = parse_toml(path.read_text("utf-8-sig"))
    except OSError as fault:
        raise ModelError(f"manifest {path}: cannot be read: {fault.strerror}") from fault
    except ValueError as fault:  # no TOML, or no UTF-8
        raise ModelError(f"manifest {path}: is no TOML: {fault}") from fault
    labels = data.get("labels")
    if isinstance(labels, str):
        if Path(labels).name != labels:
            raise ModelError(f"manifest {path}: `labels` must name a file beside the manifest")
        data["labels"] = read_labels(path.parent / labels, where=f"manifest {path}: `labels`: ")
    spec = parse_manifest(data, name=path.stem, where=str(path))
    return Model(spec, path.parent / spec.file, path)


def parse_toml(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except RecursionError as fault:
        raise ValueError("it is nested too deeply") from fault
    return data


def read_labels(path: Path, *, where: str = "") -> list[str]:
    """One label a line; the line number, from 0, is the class_id."""
    try:
        labels = [line.strip() for line in path.read_text("utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as fault:
        raise ModelError(f"{where}cannot read {path}: {fault}") from fault
    if "" in labels:
        raise ModelError(f"{where}{path}, line {labels.index('') + 1}: is blank; write a label")
    return labels


def format_manifest(spec: ModelSpec, *, labels_file: str | None = None) -> str:
    """The manifest that reads back as ``spec``; its labels inline unless a file has them."""
    top = {
        "file": spec.file,
        "sha256": spec.sha256 or "",
        "url": spec.url or "",
        "licence": spec.licence,
        "provenance": spec.provenance,
        "description": spec.description,
        "parent": spec.parent or "",
        "default": spec.default,
        "labels": labels_file or spec.labels,
    }
    tables: dict[str, Mapping[str, Any]] = {
        "input": {
            ("size" if k == "size_wh" else k): v
            for k, v in asdict(spec.input).items()
            if k != "fit" or v
        },
        "decoder": {"family": spec.family, **spec.parameters},
        "thresholds": {"score": spec.score, "iou": spec.iou},
        "accuracy": spec.accuracy,
    }
    lines = [f"{key} = {_value(value)}" for key, value in top.items() if value not in ("", False)]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


_ESCAPES = {"\\": r"\\", '"': r"\""}


def _string(text: str) -> str:
    def escape(c: str) -> str:
        return _ESCAPES.get(c, c) if " " <= c != "\x7f" else f"\\u{ord(c):04x}"

    return '"' + "".join(map(escape, text)) + '"'


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _string(text)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
            return f"{{{inner}}}"
    raise TypeError(f"a manifest cannot hold {value!r}")
