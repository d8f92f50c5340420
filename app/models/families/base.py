"""What a detector family declares, and the parts that families share.

A family is one file of this folder that sets ``FAMILY = Family(...)``, and a name for each other
form of it; the registry finds them there.
Shapes are those of one frame, sizes are (width, height) in pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from ...core.detections import wrong_score
from ...core.errors import ModelError
from ...core.letterbox import Align, Resize

Array = NDArray[np.float32]
SizeWh = tuple[int, int]
Triple = tuple[float, float, float]
Shapes = Sequence[tuple[int, ...]]
Outputs = Sequence[NDArray[Any]]  # of one frame, in graph order
NamedOutputs = Mapping[str, NDArray[Any]]

STRIDES = (8, 16, 32)
MAX_LEVELS = 5
# of the levels that detectors have: usual, P2, P6, tiny, and rarer ones
LEVELS = (
    STRIDES,
    (4, 8, 16, 32),
    (8, 16, 32, 64),
    (16, 32),
    (4, 8, 16, 32, 64),
    (8, 16, 32, 64, 128),
    (4, 8, 16),
    (8, 16),
)


# -- what a graph says of itself -------------------------------------------------------------------


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
    """Inputs and outputs of a graph in its own order, and the exporter's notes.

    ``labels``: the classes as the exporter or the user names them. ``nhwc``: the file takes its
    picture so, as TensorFlow's do.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    nhwc: bool = False

    @property
    def bodies(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the outputs by name, without the batch of 1; () for any other batch."""
        return {t.name: t.shape[1:] if t.shape[:1] == (1,) else () for t in self.outputs}

    @property
    def task(self) -> str:
        """What it was exported for, in Ultralytics' words; "" where nothing is noted."""
        return self.metadata.get("task", "")

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        return [t.shape for t in self.outputs]

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of a single output [1, rows, columns]; (0, 0) if it is another shape."""
        match [*self.bodies.values()]:
            case [(int(rows), int(columns))]:
                return rows, columns
        return 0, 0


class InputDefaults(TypedDict, total=False):
    """The fields of InputSpec in which a family's exports differ from its defaults."""

    channels: Literal["BGR", "RGB"]
    scale: float
    mean: Triple
    std: Triple
    resize: Resize
    align: Align
    pad: int


class Match(NamedTuple):
    """One way to read a graph that fits a family by its shapes.

    ``classes`` is None where NMS in the graph hides their number. ``parameters`` are those of
    [decoder]. ``what`` names the detectors that export so, where that is not the family's name.
    ``input`` and ``labels`` are in place of the family's. ``notes`` tell what its user must know.
    """

    classes: int | None
    parameters: Mapping[str, Any]
    what: str = ""
    input: InputDefaults | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# -- what a decoder takes and gives ----------------------------------------------------------------


class Head(NamedTuple):
    """What a decoder must know of a network; ``parameters`` are complete, with their defaults."""

    shapes: Shapes
    input_wh: SizeWh
    classes: int
    parameters: Mapping[str, Any]


class MaskPlanes(NamedTuple):
    """Masks of M candidates over the whole input, coarse: (h, w), above ``level`` inside.

    ``rows``: (M, K) shares of the K ``planes`` (K, h, w) that add up to a mask, or (M,) the number
    of each one's own plane.
    """

    rows: NDArray[Any]
    planes: NDArray[Any]
    level: float = 0.0


class Candidates(NamedTuple):
    """Boxes over the threshold, before NMS, in pixels of the network's input.

    xyxy (M, 4), scores (M,), class_ids (M,) int; keypoints (M, K, 2) or None. turned (M, 5):
    centre, size and angle in radians, clockwise, of turned boxes, whose hull xyxy is, or None.
    """

    xyxy: Array
    scores: Array
    class_ids: NDArray[np.intp]
    keypoints: Array | None = None
    keypoint_scores: Array | None = None
    turned: Array | None = None
    masks: MaskPlanes | None = None
    point_names: tuple[str, ...] = ()

    def of(self, index: NDArray[np.intp] | slice) -> Candidates:
        """The candidates at ``index``, in that order."""
        if self.bare:
            return Candidates(self.xyxy[index], self.scores[index], self.class_ids[index])
        chosen: list[Any] = [None if each is None else each[index] for each in self[:6]]
        masks = self.masks and self.masks._replace(rows=self.masks.rows[index])
        chosen += [masks, self.point_names]
        return Candidates(*chosen)

    @property
    def bare(self) -> bool:
        return self.keypoints is None and self.masks is None and self.turned is None


# what an empty frame gives; nobody writes to it
NOTHING = Candidates(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.intp))

# Outputs in graph order, batch of one, and the least score, to candidates with at least that score.
# Pure, and safe to share between threads.
Decoder = Callable[[Outputs, float], Candidates]


# -- the declaration -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key of [decoder] in a manifest. ``values`` says which ones ``allows`` lets pass."""

    name: str
    default: Any
    values: str
    allows: Callable[[Any], bool]

    def __post_init__(self) -> None:
        if fault := self.fault(self.default):
            raise ValueError(f"parameter {self.name}: its default {fault}")

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value; None if nothing is."""
        return None if self.allows(value) else f"must be {self.values}, is {value!r}"


def flag(name: str) -> Parameter:
    return Parameter(name, False, "true or false", lambda value: isinstance(value, bool))


def are_strides(value: Any) -> bool:
    """Whether a manifest's value is a rising list of strides, in pixels."""
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MAX_LEVELS
        and all(type(v) is int and v > 0 for v in value)
        and all(a < b for a, b in pairwise(value))
    )


STRIDES_PARAMETER = Parameter(
    "strides", [*STRIDES], f"a rising list of 1 to {MAX_LEVELS} whole numbers above 0", are_strides
)


@dataclass(frozen=True, slots=True)
class DeviceKernel:
    """The function of kernels/postprocess.cu that finds a family's candidates on the GPU.

    ``grid`` gives the table that it reads, (N, 3) float32, a row for each of the network's N cells.
    """

    name: str
    grid: Callable[[Head], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All that is known of a detector family; a part that is forgotten fails at the first import.

    Only what a family may have none of has a default.
    """

    name: str
    """``decoder.family`` in manifests."""
    variant: str | None = None
    """The key of [decoder] whose ``true`` means this form of the family; None: its plain form."""
    outputs: str
    """How its outputs look with N cells and C classes, for messages."""
    parameters: tuple[Parameter, ...] = ()
    """The keys of [decoder] besides ``family`` and ``variant``."""
    labels: tuple[str, ...] = ()
    """Of a family that finds always the same; () where the file or its user names the classes."""
    input: InputDefaults
    """The preprocessing that its exports expect unless their author changed it."""
    score: float
    """The threshold for a network that is added, 0..1: scores of families are not on one scale."""
    any_size: bool
    """Whether its boxes are in cells or pixels; else they are shares of the size it learned with,
    and another input size gives wrong ones."""
    needs_nms: bool = True
    """Whether several candidates may mean one object."""
    varies: bool = False
    """Whether the number of an output's rows may change from frame to frame."""
    recognise: Callable[[GraphIO, SizeWh], Sequence[Match]]
    """The ways to read a graph by the shapes of its outputs at this input size. Dynamic sizes fit
    nothing."""
    doubt: Callable[[NamedOutputs, Match, SizeWh], str | None]
    """What the values of one run on a picture, by output, say against reading them so: other
    exports may have the same shapes. None if nothing does."""
    decoder: Callable[[Head], Decoder]
    """Makes the reader of its outputs; raises ModelError by ``check_shapes``."""
    export: str = ""
    """The command that exports a form that runs, as a sentence; "" for a general one."""
    device: DeviceKernel | None = None
    """What the GPU can do for it; None: its outputs are decoded on the host."""

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.keys]
        if len({"family", *names}) != 1 + len(names):
            raise TypeError(f"family {self.title}: parameters share a name")
        if unknown := self.input.keys() - InputDefaults.__annotations__.keys():
            raise TypeError(f"family {self.title}: input has no {', '.join(unknown)}")
        if not 0 <= self.score <= 1:
            raise TypeError(f"family {self.title}: score {self.score} is not within 0..1")

    @property
    def title(self) -> str:
        return f"{self.name} with {self.variant}" if self.variant else self.name

    @property
    def keys(self) -> tuple[Parameter, ...]:
        """All keys of [decoder] that a manifest may have for it, besides ``family``."""
        return (*self.parameters, *([flag(self.variant)] if self.variant else []))

    def complete(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Its parameters, with the defaults of those that a manifest leaves out."""
        return {p.name: parameters.get(p.name, p.default) for p in self.parameters}


# -- parts of decoders -----------------------------------------------------------------------------


def check_shapes(head: Head, family: str, *expected: tuple[int | str, ...]) -> None:
    """Raise ModelError unless the outputs have these shapes.

    A letter stands for any size: the same one wherever it stands.
    """
    sizes: dict[str, int] = {}
    if [*map(len, head.shapes)] == [*map(len, expected)] and all(
        n == (sizes.setdefault(want, n) if isinstance(want, str) else want)
        for shape, wanted in zip(head.shapes, expected, strict=True)
        for n, want in zip(shape, wanted, strict=True)
    ):
        return
    told = ", ".join(f"[{', '.join(map(str, shape))}]" for shape in expected)
    raise misfit(head, family, told)


def misfit(head: Head, family: str, told: str) -> ModelError:
    """The error for outputs that are not those of a family, which has ``told``."""
    got = ", ".join(f"[{', '.join(map(str, shape))}]" for shape in head.shapes)
    return ModelError(
        f"the network's outputs {got} are not those of family {family!r}, which has {told}; "
        "correct `decoder.family`, `input.size` or `labels` in its manifest"
    )


def cell_counts(input_wh: SizeWh, strides: Sequence[int] = STRIDES) -> list[int]:
    return [-(-input_wh[0] // stride) * -(-input_wh[1] // stride) for stride in strides]


def levels(rows: int | None, input_wh: SizeWh, per_cell: int = 1) -> list[int] | None:
    """The strides whose cells, each with ``per_cell`` rows, make so many rows; None if none do."""
    for strides in LEVELS:
        if rows == per_cell * sum(cell_counts(input_wh, strides)):
            return [*strides]
    return None


def cells(input_wh: SizeWh, strides: Sequence[int]) -> tuple[Array, Array]:
    """Cell positions (N, 2) as (column, row) and strides (N, 1), level by level, row-major."""
    positions, sizes = [], []
    for stride in strides:
        columns, rows = -(-input_wh[0] // stride), -(-input_wh[1] // stride)
        row, column = np.mgrid[:rows, :columns]
        positions.append(np.stack((column.ravel(), row.ravel()), axis=1))
        sizes.append(np.full((rows * columns, 1), stride))
    return (
        np.concatenate(positions).astype(np.float32),
        np.concatenate(sizes).astype(np.float32),
    )


def corners(centre: Array, size: Array) -> Array:
    """Centre and size, each (M, 2), to xyxy (M, 4)."""
    half = size * np.float32(0.5)
    xyxy = np.empty((len(centre), 4), np.float32)
    np.subtract(centre, half, out=xyxy[:, :2])
    np.add(centre, half, out=xyxy[:, 2:])
    return xyxy


def hulls(turned: Array) -> Array:
    """xyxy (M, 4) of turned boxes (M, 5)."""
    points = turned_corners(turned)
    return np.concatenate((points.min(axis=1), points.max(axis=1)), axis=1)


def turned_corners(turned: Array) -> Array:
    """The corners (M, 4, 2) of turned boxes (M, 5): centre, size, angle; one after the other."""
    cos, sin = np.cos(turned[:, 4]), np.sin(turned[:, 4])
    across = np.stack((cos, sin), axis=1) * turned[:, 2:3] / 2
    down = np.stack((-sin, cos), axis=1) * turned[:, 3:4] / 2
    ways = (-across - down, across - down, across + down, down - across)
    points: Array = turned[:, None, :2] + np.stack(ways, axis=1)
    return points.astype(np.float32, copy=False)


def best_class(class_scores: Array) -> tuple[NDArray[np.intp], Array]:
    class_ids = class_scores.argmax(axis=1)
    return class_ids, class_scores[np.arange(len(class_ids)), class_ids]


def refuse_negative(scores: Array) -> None:
    """Raise ModelError for scores below 0, which no threshold would let be seen."""
    low = float(scores.min(initial=0))
    if low < -0.01:  # quantized networks round
        raise wrong_score(low)


def over_threshold(rows: Array, score: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Of rows (N, 5 + C) those whose objectness × best class reaches ``score``.

    Gives their indices (M,), class ids (M,) and scores (M,).
    """
    refuse_negative(rows[:, 4])
    kept = (rows[:, 4] >= score).nonzero()[0]
    class_ids, class_scores = best_class(rows[kept, 5:])
    scores = rows[kept, 4] * class_scores
    strong = scores >= score
    return kept[strong], class_ids[strong], scores[strong]


# -- parts of doubts -------------------------------------------------------------------------------


def first_frame(outputs: NamedOutputs) -> Array:
    """The first output without its batch, as float32."""
    frame: Array = next(iter(outputs.values()))[0].astype(np.float32)
    return frame


def doubt_scores(*scores: NDArray[Any]) -> str | None:
    """What speaks against these being scores from 0 to 1."""
    low, high = min(float(s.min()) for s in scores), max(float(s.max()) for s in scores)
    if low >= -0.01 and high <= 1.01:
        return None
    return f"its scores run from {low:.3g} to {high:.3g}: export it with sigmoid or softmax"


def doubt_pixels(boxes: Array, most: float = 2) -> str | None:
    """What speaks against these numbers being pixels of the input: all are within ``most``."""
    if boxes.size and float(np.abs(boxes).max()) > most:
        return None
    return "its boxes are not in pixels of the input: export it to ONNX with decoded boxes"


def sigmoid(logits: Array) -> Array:
    share: Array = np.reciprocal(np.float32(1) + np.exp(-logits))
    return share


def logit(score: float) -> float:
    """The inverse of ``sigmoid``, with infinities at 0 and 1."""
    if not 0 < score < 1:
        return math.inf if score >= 1 else -math.inf
    return math.log(score / (1 - score))


# what detectors are given to which their makers' names belong
IMAGENET: InputDefaults = {
    "channels": "RGB",
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of COCO's ids 1..90, those without a class
