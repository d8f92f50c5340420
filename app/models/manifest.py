"""A model's manifest: input, decoder, labels and provenance, read from and written to TOML.

The format is a contract (models/README.md). Everything is checked here, once, with the manifest's
path and key in the message.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ..core.errors import ModelError
from ..core.letterbox import Align, Resize, needed
from ..core.masks import MaskForm
from ..core.package import data_folder, user_folder
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

    def size_for(self, wh_px: tuple[int, int], pixel_aspect: float = 1.0) -> tuple[int, int]:
        """(width, height) of what is computed for a frame of this size."""
        if not self.fit:
            return self.size_wh
        return needed(wh_px, self.size_wh, self.fit, pixel_aspect=pixel_aspect)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One manifest. ``accuracy`` and ``parameters`` are kept as written.

    ``git_blob``: the id of the file in a Git repository, where no ``sha256`` is known.
    ``size_bytes``: of the file. ``untried``: nobody of this project has run it. ``tidy``: the file
    is made plain in the cache, and that copy runs.
    ``parent`` names the model that a quantised or pruned variant is judged against. ``agnostic``:
    of overlapping boxes the strongest stays, whatever their classes. ``class_scores``: thresholds
    of single labels, in place of ``score``. ``masks``: how those that it finds are written;
    of a run, and not in the manifest.
    """

    name: str
    file: str
    input: InputSpec
    family: str
    labels: tuple[str, ...]
    sha256: str | None = None
    git_blob: str | None = None
    size_bytes: int | None = None
    url: str | None = None
    licence: str = ""
    provenance: str = ""
    description: str = ""
    default: bool = False
    untried: bool = False
    tidy: bool = False
    parent: str | None = None
    score: float = 0.35
    iou: float = 0.45
    agnostic: bool = False
    class_scores: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    masks: MaskForm = "rle"

    @property
    def chooses(self) -> bool:
        return self.agnostic or bool(self.class_scores)

    @property
    def detector(self) -> Family:
        return find_family(self.family, self.parameters)

    def head(self, shapes: Shapes) -> Head:
        """What a decoder must know, for outputs of these shapes."""
        parameters = self.detector.complete(self.parameters)
        return Head(shapes, self.input.size_wh, len(self.labels), parameters)

    def decoder(self, shapes: Shapes) -> Decoder:
        """The reader of outputs of these shapes; raises ModelError where they do not fit."""
        return self.detector.decoder(self.head(shapes))

    def whole(self) -> ModelSpec:
        return replace(self, input=replace(self.input, fit=0))

    def for_frame(self, wh_px: tuple[int, int], pixel_aspect: float = 1.0) -> ModelSpec:
        """With the input cut to what frames of this size need, where the network takes that."""
        if not self.input.fit:
            return self
        return replace(
            self, input=replace(self.input, size_wh=self.input.size_for(wh_px, pixel_aspect))
        )


class KeyCheck(NamedTuple):
    """A key of a manifest: which ``values`` it may have, and how ModelSpec has them."""

    values: str
    allows: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _one_of(*allowed: str) -> KeyCheck:
    return KeyCheck(f"one of {', '.join(allowed)}", lambda value: value in allowed)


def _number(low: float, high: float) -> KeyCheck:
    return KeyCheck(
        f"a number from {low} to {high}", lambda v: _finite(v) and low <= v <= high, float
    )


def _whole(low: int, high: int) -> KeyCheck:
    number = _number(low, high)
    return KeyCheck(f"a whole {number.values[2:]}", lambda v: number.allows(v) and v == int(v), int)


def _several(count: int, each: KeyCheck) -> KeyCheck:
    return KeyCheck(
        f"a list of {count} values, each {each.values}",
        lambda v: isinstance(v, list | tuple) and len(v) == count and all(map(each.allows, v)),
        lambda v: tuple(map(each.convert, v)),
    )


def _matching(values: str, pattern: str) -> KeyCheck:
    return KeyCheck(
        values,
        lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)),
        lambda value: value or None,
    )


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _finite(value: Any) -> bool:
    # a whole number may have more digits than a float holds
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


_TEXT = KeyCheck("a string", lambda value: isinstance(value, str))
_OPTIONAL = _TEXT._replace(convert=lambda value: value or None)
_TABLE = KeyCheck("a table", lambda value: isinstance(value, Mapping))
_FLAG = KeyCheck("true or false", lambda value: isinstance(value, bool))
_FINITE = KeyCheck("a finite number", _finite, float)
_TOP = {
    "file": _matching("the name of a file beside the manifest", r"(?!\.\.?$)[^/\\\x00-\x1f]+"),
    "sha256": _matching("64 lower-case hexadecimal digits", r"([0-9a-f]{64})?"),
    "git_blob": _matching("40 lower-case hexadecimal digits", r"([0-9a-f]{40})?"),
    "size_bytes": _whole(1, 1 << 40),
    **dict.fromkeys(("url", "parent"), _OPTIONAL),
    **dict.fromkeys(("licence", "provenance", "description"), _TEXT),
    **dict.fromkeys(("default", "untried", "tidy"), _FLAG),
    "labels": KeyCheck("a list of class names, or the name of a text file", _are_labels, tuple),
    **dict.fromkeys(("input", "decoder", "thresholds", "accuracy"), _TABLE),
}
_INPUT = {
    "size": _several(2, _whole(1, MAX_SIDE_PX)),
    "layout": _one_of("NCHW"),
    "channels": _one_of("BGR", "RGB"),
    "scale": _FINITE,
    "mean": _several(3, _FINITE),
    "std": _several(3, KeyCheck("a finite number but 0", lambda v: _finite(v) and v != 0, float)),
    "resize": _one_of(*get_args(Resize)),
    "align": _one_of(*get_args(Align)),
    "pad": _whole(0, 255),
    "fit": _whole(0, MAX_SIDE_PX),
}
_FAMILY = {"family": _one_of(*FAMILY_NAMES)}
_SHARE = _number(0, 1)
_THRESHOLDS = {
    "score": _SHARE,
    "iou": _SHARE,
    "agnostic": _FLAG,
    "class_scores": KeyCheck(
        "a table of labels and numbers from 0 to 1",
        lambda value: isinstance(value, Mapping) and all(map(_SHARE.allows, value.values())),
        lambda value: {label: float(score) for label, score in value.items()},
    ),
}


def parse_manifest(data: Mapping[str, Any], *, name: str, where: str) -> ModelSpec:
    """Check a manifest already read from TOML. ``labels`` must be a list by now.

    Raises ModelError naming ``where`` (the manifest's path) and the key at fault.
    """

    def fault(key: str, what: str) -> ModelError:
        return ModelError(f"manifest {where}: `{key.lstrip('.')}` {what}")

    def read(table: str, keys: Mapping[str, KeyCheck], *needed: str) -> dict[str, Any]:
        values = top.pop(table, {}) if table else data
        for key in needed:
            if key not in values:
                raise fault(f"{table}.{key}", "is missing")
        for key in sorted(values, key=lambda key: key not in needed):
            value = values[key]
            if key not in keys:
                raise fault(f"{table}.{key}", f"is not known here; known are: {', '.join(keys)}")
            if not keys[key].allows(value):
                raise fault(f"{table}.{key}", f"must be {keys[key].values}, is {value!r:.80}")
        return {key: keys[key].convert(value) for key, value in values.items()}

    top: dict[str, Any] = {}
    top = read("", _TOP, "file", "labels")
    given = read("input", _INPUT, "size")
    given.pop("layout", None)
    family = top.get("decoder", {}).get("family", "")
    known = decoder_keys(family) if family in FAMILY_NAMES else {}
    decoder = read(
        "decoder",
        {**_FAMILY, **{k: KeyCheck(p.values, p.allows) for k, p in known.items()}},
        "family",
    )
    del decoder["family"]
    image = InputSpec(given.pop("size"), **given)
    if image.fit and any(v % image.fit for v in image.size_wh):
        raise fault("input.fit", f"is {image.fit}; `input.size` must be a multiple of it")
    any_size = find_family(family, decoder).any_size
    if image.fit and (image.resize != "letterbox" or not any_size):
        what = f'goes with `input.resize` "letterbox" and the families {", ".join(ANY_SIZE)}'
        raise fault("input.fit", what)
    thresholds = read("thresholds", _THRESHOLDS)
    if unknown := [v for v in thresholds.get("class_scores", ()) if v not in top["labels"]]:
        raise fault("thresholds.class_scores", f"names {unknown[0]!r}, which `labels` does not")
    return ModelSpec(name=name, input=image, family=family, parameters=decoder, **thresholds, **top)


SHIPPED_DIR = data_folder("models")
SHELF_DIR = user_folder("models")  # where models are added; the same folder in a checkout


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
        at_home = self.manifest.resolve().parent in (SHELF_DIR, SHIPPED_DIR)
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
    weights = path.parent / spec.file
    if path.parent == SHIPPED_DIR and not weights.is_file():
        weights = SHELF_DIR / spec.file  # where they are fetched to
    return Model(spec, weights, path)


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
        "git_blob": spec.git_blob or "",
        "size_bytes": spec.size_bytes or "",
        "url": spec.url or "",
        "licence": spec.licence,
        "provenance": spec.provenance,
        "description": spec.description,
        "parent": spec.parent or "",
        "default": spec.default,
        "untried": spec.untried,
        "tidy": spec.tidy,
        "labels": labels_file or spec.labels,
    }
    tables: dict[str, Mapping[str, Any]] = {
        "input": {
            ("size" if k == "size_wh" else k): v
            for k, v in asdict(spec.input).items()
            if k != "fit" or v
        },
        "decoder": {"family": spec.family, **spec.parameters},
        "thresholds": {"score": spec.score, "iou": spec.iou, **_choices(spec)},
        "accuracy": spec.accuracy,
    }
    lines = [f"{key} = {_value(value)}" for key, value in top.items() if value not in ("", False)]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _choices(spec: ModelSpec) -> dict[str, Any]:
    choices = {"agnostic": spec.agnostic, "class_scores": spec.class_scores}
    return {key: value for key, value in choices.items() if value}


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
