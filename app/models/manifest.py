"""A model's manifest: input, decoder, labels and provenance, read from and written to TOML.

The format is a contract (models/README.md). Everything is checked here, once, with the manifest's
path and key in the message.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..core.errors import ModelError
from ..core.letterbox import Align, Resize, needed
from .families import ANY_SIZE, FAMILY_NAMES, decoder_keys, find_family
from .families.base import Decoder, Family, Head, Shapes, Triple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


MAX_SIDE_PX = 8192


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How pixels become the tensor: tensor = (pixel * scale − mean) / std, per channel, NCHW.

    ``mean`` and ``std`` are in the order of ``channels``. ``pad`` is a pixel value, before scale.
    ``fit``: the network takes any size in multiples of this, so of ``size_wh`` only as much is
    computed as a frame's letterbox needs; 0: always all of it.
    """

    size_wh: tuple[int, int]
    channels: Literal["BGR", "RGB"] = "BGR"
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    resize: Resize = "letterbox"
    align: Align = "center"
    pad: int = 114
    fit: int = 0

    def size_for(self, wh_px: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of what is computed for a frame of this size."""
        return needed(wh_px, self.size_wh, self.fit) if self.fit else self.size_wh


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One manifest. ``accuracy`` and ``parameters`` are kept as written.

    ``parent`` names the model that a quantised or pruned variant is judged against.
    """

    name: str
    file: str
    input: InputSpec
    family: str
    labels: tuple[str, ...]
    sha256: str | None = None
    url: str | None = None
    licence: str = ""
    provenance: str = ""
    description: str = ""
    default: bool = False
    parent: str | None = None
    score: float = 0.35
    iou: float = 0.45
    parameters: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def detector(self) -> Family:
        """What is known of its family, in the form that its parameters choose."""
        return find_family(self.family, self.parameters)

    def head(self, shapes: Shapes) -> Head:
        """What a decoder must know, for outputs of these shapes."""
        parameters = self.detector.complete(self.parameters)
        return Head(shapes, self.input.size_wh, len(self.labels), parameters)

    def decoder(self, shapes: Shapes) -> Decoder:
        """The reader of outputs of these shapes; raises ModelError where they do not fit."""
        return self.detector.decoder(self.head(shapes))

    def whole(self) -> ModelSpec:
        """With all of the input computed for every frame."""
        return replace(self, input=replace(self.input, fit=0))

    def for_frame(self, wh_px: tuple[int, int]) -> ModelSpec:
        """With the input cut to what frames of this size need, where the network takes that."""
        if not self.input.fit:
            return self
        return replace(self, input=replace(self.input, size_wh=self.input.size_for(wh_px)))


def parse_manifest(data: Mapping[str, Any], *, name: str, where: str) -> ModelSpec:
    """Check a manifest already read from TOML. ``labels`` must be a list by now.

    Raises ModelError naming ``where`` (the manifest's path) and the key at fault.
    """
    read = _TableReader(data, where)
    read.only("", _TOP_KEYS)
    read.only("input", _INPUT_KEYS)
    read.only("thresholds", ("score", "iou"))
    layout = read.text("input.layout", "NCHW")
    if layout != "NCHW":
        raise read.fault("input.layout", f"is {layout!r}; only 'NCHW' networks can be run")
    size = read.numbers("input.size", 2)
    if any(v != int(v) or v < 1 for v in size):
        raise read.fault("input.size", f"is {list(size)}; write two whole numbers: [width, height]")
    if max(size) > MAX_SIDE_PX:
        raise read.fault("input.size", f"is {list(size)}; at most {MAX_SIDE_PX} each way")
    std = read.numbers("input.std", 3, (1.0, 1.0, 1.0))
    if any(v == 0 for v in std):
        raise read.fault("input.std", "holds a 0; it divides, so no value may be 0")
    pad = read.number("input.pad", 114, low=0, high=255)
    if pad != int(pad):
        raise read.fault("input.pad", f"is {pad}; write a whole number")
    family = read.choice("decoder.family", FAMILY_NAMES)
    parameters = _parameters(read, family)
    resize = read.choice("input.resize", get_args(Resize), "letterbox")
    fit = read.number("input.fit", 0, low=0, high=MAX_SIDE_PX)
    if fit and (fit != int(fit) or any(v % fit for v in size)):
        raise read.fault("input.fit", f"is {fit:g}; `input.size` must be a multiple of it")
    if fit and (resize != "letterbox" or not find_family(family, parameters).any_size):
        what = f'goes with `input.resize` "letterbox" and the families {", ".join(ANY_SIZE)}'
        raise read.fault("input.fit", what)
    file = read.text("file")
    if not re.fullmatch(r"[^/\\\x00-\x1f]+", file) or file in (".", ".."):
        raise read.fault("file", f"is {file!r}; write the name of a file beside the manifest")
    default = read.get("default", False)
    if not isinstance(default, bool):
        raise read.fault("default", f"must be true or false, is {default!r}")
    sha256 = read.text("sha256", "") or None
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise read.fault("sha256", "must be 64 lower-case hexadecimal digits")
    labels = read.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(v, str) for v in labels):
        raise read.fault("labels", "must be a list of class names, or the name of a text file")
    return ModelSpec(
        name=name,
        file=file,
        input=InputSpec(
            size_wh=(int(size[0]), int(size[1])),
            channels=read.choice("input.channels", ("BGR", "RGB"), "BGR"),
            scale=read.number("input.scale", 1.0),
            mean=read.numbers("input.mean", 3, (0.0, 0.0, 0.0)),
            std=std,
            resize=resize,
            align=read.choice("input.align", get_args(Align), "center"),
            pad=int(pad),
            fit=int(fit),
        ),
        family=family,
        labels=tuple(labels),
        sha256=sha256,
        url=read.text("url", "") or None,
        licence=read.text("licence", ""),
        provenance=read.text("provenance", ""),
        description=read.text("description", ""),
        default=default,
        parent=read.text("parent", "") or None,
        score=read.number("thresholds.score", 0.35, low=0, high=1),
        iou=read.number("thresholds.iou", 0.45, low=0, high=1),
        parameters=parameters,
        accuracy=read.table("accuracy"),
    )


def _parameters(read: _TableReader, family: str) -> dict[str, Any]:
    """The decoder's parameters, those that are there, checked for what the decoders rely on."""
    keys = decoder_keys(family)
    read.only("decoder", ("family", *keys))
    found = {k: v for k, v in read.table("decoder").items() if k != "family"}
    for key, value in found.items():
        if fault := keys[key].fault(value):
            raise read.fault(f"decoder.{key}", fault)
    return found


_TEXT_KEYS = ("file", "sha256", "url", "licence", "provenance", "description", "parent")
_TOP_KEYS = (*_TEXT_KEYS, "default", "input", "decoder", "labels", "thresholds", "accuracy")
_INPUT_KEYS = (
    *("size", "layout", "channels", "scale", "mean", "std", "resize", "align", "pad", "fit"),
)
_REQUIRED: Any = object()


class _TableReader:
    """Typed look-ups by dotted key; every fault names the file and the key."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._data, self._where = data, where

    def fault(self, key: str, what: str) -> ModelError:
        return ModelError(f"manifest {self._where}: `{key}` {what}")

    def table(self, key: str) -> Mapping[str, Any]:
        value = self._data.get(key, {}) if key else self._data
        if not isinstance(value, Mapping):
            raise self.fault(key, "must be a table")
        return value

    def only(self, table: str, known: tuple[str, ...]) -> None:
        for key in self.table(table):
            if key not in known:
                dotted = f"{table}.{key}" if table else key
                raise self.fault(dotted, f"is not known here; known are: {', '.join(known)}")

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        table, _, leaf = key.rpartition(".")
        value = self.table(table).get(leaf, default)
        if value is _REQUIRED:
            raise self.fault(key, "is missing")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.fault(key, f"must be a string, is {value!r}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> Any:
        value = self.text(key, default)
        if value not in allowed:
            raise self.fault(key, f"is {value!r}; allowed are: {', '.join(allowed)}")
        return value

    def number(
        self, key: str, default: Any, *, low: float = -math.inf, high: float = math.inf
    ) -> float:
        value = self._finite(key, self.get(key, default))
        if not low <= value <= high:
            raise self.fault(key, f"is {value}; it must lie between {low} and {high}")
        return value

    def numbers(self, key: str, count: int, default: Any = _REQUIRED) -> Any:
        value = self.get(key, default)
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise self.fault(key, f"must be a list of {count} numbers, is {value!r}")
        return tuple(self._finite(key, v) for v in value)

    def _finite(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault(key, f"must be a number, is {value!r}")
        try:
            number = float(value)
        except OverflowError:  # a whole number of more digits than a float holds
            number = math.inf
        if not math.isfinite(number):
            raise self.fault(key, f"is {str(value)[:20]}; write a finite number")
        return number


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


def _string(text: str) -> str:
    """A TOML string; JSON's differs from it in one character only."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


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
