"""What does a model's manifest say: its input, its decoder, its labels, its provenance?

The format is a contract (models/README.md). Everything is checked here, once, with the manifest's
path and key in the message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, get_args

from app.errors import ModelError
from app.letterbox import Align, Resize, needed

Family = Literal["yolox", "yolov5", "yolov8", "nanodet", "fastestdet", "yunet", "ultraface"]
FAMILIES: tuple[str, ...] = get_args(Family)
PARAMETERS: Mapping[str, tuple[str, ...]] = {  # of [decoder], by family
    "yolox": ("strides",),
    "yolov8": ("end_to_end",),
    "nanodet": ("strides", "reg_max"),
    "yunet": ("strides",),
}
# their boxes are told in cells or pixels; others tell shares of the size they learned with
ANY_SIZE = ("yolox", "yolov5", "yolov8", "nanodet", "yunet")
MAX_SIDE_PX = 8192
MAX_LEVELS = 5
MAX_REG = 64
Triple = tuple[float, float, float]


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
    family: Family
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
    read = _Reader(data, where)
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
    family = read.choice("decoder.family", FAMILIES)
    resize = read.choice("input.resize", get_args(Resize), "letterbox")
    fit = read.number("input.fit", 0, low=0, high=MAX_SIDE_PX)
    if fit and (fit != int(fit) or any(v % fit for v in size)):
        raise read.fault("input.fit", f"is {fit:g}; `input.size` must be a multiple of it")
    if fit and (resize != "letterbox" or family not in ANY_SIZE):
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
        parameters=_parameters(read, family),
        accuracy=read.table("accuracy"),
    )


def _parameters(read: _Reader, family: Family) -> Mapping[str, Any]:
    """The decoder's parameters, those that are there, checked for what the decoders rely on."""
    read.only("decoder", ("family", *PARAMETERS.get(family, ())))
    found = {k: v for k, v in read.table("decoder").items() if k != "family"}
    if "strides" in found:
        strides = found["strides"]
        if family == "yolox" and isinstance(strides, list):
            # a second head, say one for faces alone, has rows of its own for the same cells
            half = len(strides) // 2
            strides = strides[:half] if half > 1 and strides[:half] * 2 == strides else strides
        good = isinstance(strides, list) and 1 <= len(strides) <= MAX_LEVELS
        if not good or not all(type(v) is int and v > 0 for v in strides):
            what = f"must be a list of 1 to {MAX_LEVELS} whole numbers above 0, is {strides!r}"
            raise read.fault("decoder.strides", what)
        if any(a >= b for a, b in pairwise(strides)):
            raise read.fault("decoder.strides", f"is {strides}; each must be above the one before")
    if "reg_max" in found and not (
        type(found["reg_max"]) is int and 1 <= found["reg_max"] <= MAX_REG
    ):
        what = f"must be a whole number from 1 to {MAX_REG}, is {found['reg_max']!r}"
        raise read.fault("decoder.reg_max", what)
    if not isinstance(found.get("end_to_end", False), bool):
        raise read.fault("decoder.end_to_end", f"must be true or false, is {found['end_to_end']!r}")
    return found


_TEXT_KEYS = ("file", "sha256", "url", "licence", "provenance", "description", "parent")
_TOP_KEYS = (*_TEXT_KEYS, "default", "input", "decoder", "labels", "thresholds", "accuracy")
_INPUT_KEYS = (
    *("size", "layout", "channels", "scale", "mean", "std", "resize", "align", "pad", "fit"),
)
_REQUIRED: Any = object()


def _is_finite(value: float) -> bool:
    """Also of whole numbers that are too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


class _Reader:
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
        self, key: str, default: Any, *, low: float = float("-inf"), high: float = float("inf")
    ) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault(key, f"must be a number, is {value!r}")
        if not _is_finite(value):
            raise self.fault(key, f"is {str(value)[:20]}; write a finite number")
        if not low <= value <= high:
            raise self.fault(key, f"is {value}; it must lie between {low} and {high}")
        return float(value)

    def numbers(self, key: str, count: int, default: Any = _REQUIRED) -> Any:
        value = self.get(key, default)
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise self.fault(key, f"must be a list of {count} numbers, is {value!r}")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
            raise self.fault(key, f"must hold numbers only, is {value!r}")
        if not all(map(_is_finite, value)):
            raise self.fault(key, f"must hold finite numbers, is {value!r}")
        return tuple(float(v) for v in value)
