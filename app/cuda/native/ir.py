"""Intermediate representation: a static, folded ONNX graph, and the steps it is lowered to.

ONNX Runtime's basic optimiser does what any engine would do first: it fixes the sizes, computes
what is constant and puts batch norm into its convolution. A few dozen kinds of nodes are left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from ...models.adapt import load_onnx
from ...models.onnx_edit import set_input
from ...models.onnx_session import load_onnxruntime, one_line, quiet_options

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operation: ONNX's name of it, names of its tensors ("" for one left out), attributes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order that can be run; ``shapes`` of all tensors, ``constants`` of some."""

    input: str
    outputs: tuple[str, ...]
    nodes: tuple[GraphNode, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, NDArray[Any]]


def read_static_graph(
    weights: Path, size_wh: tuple[int, int], *, frames: int = 1, content: bytes | None = None
) -> Graph:
    """The network for ``frames`` frames of ``size_wh``. Raises ModelError in one line.

    ``content``: what ``weights`` held when it was read; it may be another file by now.
    """
    onnx = load_onnx()
    ort, options = load_onnxruntime(), quiet_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        model = onnx.load(weights) if content is None else onnx.load_model_from_string(content)
        fixed_batch = set_input(model, (frames, 3, size_wh[1], size_wh[0]))[0]
        if frames > 1 and fixed_batch:
            raise _one_at_a_time(weights)
        for output in model.graph.output:
            for dim in output.type.tensor_type.shape.dim:
                if not dim.dim_value:  # its name may be that of a size that is fixed now
                    dim.Clear()
        with tempfile.TemporaryDirectory() as folder:
            fixed, folded = Path(folder) / "fixed.onnx", Path(folder) / "folded.onnx"
            options.optimized_model_filepath = str(folded)
            onnx.save(model, str(fixed))
            ort.InferenceSession(str(fixed), options, providers=["CPUExecutionProvider"])
            model = onnx.shape_inference.infer_shapes(onnx.load(str(folded)))
    except ModelError:
        raise
    except Exception as error:  # neither library's errors have a common root
        raise ModelError(f"{weights} cannot be read: {one_line(error)}") from error
    graph = model.graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    known = [*graph.input, *graph.value_info, *graph.output]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known}
    nodes = tuple(_node(onnx, n, i) for i, n in enumerate(graph.node))
    for node in nodes:
        for name in node.outputs:
            if name and 0 in shapes.get(name, (0,)):
                raise ModelError(
                    f"{weights}: the size of {name!r} ({node.op} {node.name!r}) depends on the "
                    "picture; use --engine tensorrt, or ort-cuda"
                )
    if frames > 1 and any(shapes[o.name][:1] != (frames,) for o in graph.output):
        raise _one_at_a_time(weights)
    inputs = [i.name for i in graph.input if i.name not in constants]
    return Graph(inputs[0], tuple(o.name for o in graph.output), nodes, shapes, constants)


def _one_at_a_time(weights: Path) -> ModelError:
    return ModelError(
        f"{weights}: this network takes one frame at a time; leave --batch out, or export it with "
        "a dynamic first axis"
    )


def _node(onnx: Any, node: Any, index: int) -> GraphNode:
    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    name = node.name or f"{node.op_type}_{index}"
    return GraphNode(name, node.op_type, tuple(node.input), tuple(node.output), attributes)


def as_list(value: Any) -> list[int]:
    """Whole numbers of a constant or an attribute."""
    return [int(v) for v in np.asarray(value).reshape(-1)]


Activation = tuple[str, float, float]  # kind, two parameters
NOTHING: Activation = ("none", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Quant:
    """How 8 bits stand for numbers: the byte q, from -128 to 127, for (q - zero) · scale."""

    scale: float
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A rounding in between: the number whose byte is q becomes ``values`` (256,) [q + 128]."""

    quant: Quant
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: elements of a buffer, from ``offset``, ``strides`` elements apart.

    Axes of size 1 have stride 0: views of the same elements in the same shape are equal.
    ``quant``: the buffer holds bytes; who writes rounds to them, who reads gets numbers.
    """

    buffer: int
    shape: Shape
    strides: Shape
    offset: int = 0
    quant: Quant | None = None

    def __post_init__(self) -> None:
        axes = zip(self.shape, self.strides, strict=True)
        object.__setattr__(self, "strides", tuple(s if n > 1 else 0 for n, s in axes))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def contiguous(self) -> bool:
        return all(
            n == 1 or have == want
            for n, have, want in zip(self.shape, self.strides, row_major(self.shape), strict=True)
        )

    @property
    def frames_contiguous(self) -> bool:
        """Whether each frame (first axis) lies without gaps; the frames may lie apart."""
        return self.sliced(0, 0, 1).contiguous

    def reshaped(self, shape: Shape) -> View | None:
        """The same elements in another shape without a copy, or None where there is no such view.

        Axes are matched from the left in groups of equal size; within a group the old axes must
        lie as if they were one.
        """
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        new = [n for n in shape if n != 1]
        strides: list[int] = []
        i = j = 0
        while i < len(old) or j < len(new):
            a, b, first_i, first_j = 1, 1, i, j
            while True:
                if a == b and i > first_i and j > first_j:
                    break
                if a <= b and i < len(old):
                    a, i = a * old[i][0], i + 1
                elif j < len(new):
                    b, j = b * new[j], j + 1
                else:
                    return None
            group = old[first_i:i]
            if any(s != n * t for (_, s), (n, t) in pairwise(group)):
                return None
            step = group[-1][1]
            part = []
            for n in reversed(new[first_j:j]):
                part.append(step)
                step *= n
            strides += reversed(part)
        kept = iter(strides)
        return replace(self, shape=shape, strides=tuple(next(kept) if n != 1 else 0 for n in shape))

    def permuted(self, axes: Sequence[int]) -> View:
        return replace(
            self,
            shape=tuple(self.shape[a] for a in axes),
            strides=tuple(self.strides[a] for a in axes),
        )

    @property
    def raster(self) -> bool:
        """(frames,C,H,W) whose rows lie as if they were one; all else may lie anyhow."""
        _, _, h, w = self.shape
        return h == 1 or w == 1 or self.strides[2] == w * self.strides[3]

    @property
    def pixel_step(self) -> int:
        """Elements from one pixel to the next, of a raster."""
        return self.strides[3] or self.strides[2]

    def sliced(self, axis: int, start: int, count: int, step: int = 1) -> View:
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis] = count
        strides[axis] *= step
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=offset)

    def broadcast(self, shape: Shape) -> View:
        """Repeated along axes of size 1, with strides of 0."""
        missing = len(shape) - len(self.shape)
        old_shape, old = (1,) * missing + self.shape, (0,) * missing + self.strides
        strides = tuple(
            s if have == want else 0 for have, want, s in zip(old_shape, shape, old, strict=True)
        )
        return replace(self, shape=shape, strides=strides)


def moved(view: View, source: View, target: View) -> View | None:
    """Where the elements of ``view`` are after ``source``, of the same buffer, was copied to
    ``target``; None if they were not all copied, or do not lie evenly there.

    Axes of ``source`` are the digits of an element's place; digits that are neighbours in both
    layouts are joined, and each axis of ``view`` must move within one digit.
    """
    axes = zip(source.shape, source.strides, target.strides, strict=True)
    digits: list[tuple[int, int, int]] = []  # size, and step in either layout; largest step first
    for n, s, t in sorted((a for a in axes if a[0] != 1), key=lambda a: -a[1]):
        if s == 0 or (digits and digits[-1][1] < n * s):
            return None  # elements are repeated
        if digits and digits[-1][1:] == (n * s, n * t):
            n *= digits.pop()[0]
        digits.append((n, s, t))
    rest, offset = view.offset - source.offset, target.offset
    most = []  # the largest value of each digit
    for _, s, t in digits:
        digit, rest = divmod(rest, s)
        most.append(digit)
        offset += digit * t
    if rest or view.offset < source.offset:
        return None
    strides = []
    for n, step in zip(view.shape, view.strides, strict=True):
        i = next((i for i, (_, s, _) in enumerate(digits) if step >= s), None)
        if step == 0:
            strides.append(0)
        elif i is None or step % digits[i][1]:
            return None
        else:
            count = step // digits[i][1]
            most[i] += count * (n - 1)
            strides.append(count * digits[i][2])
    if any(not 0 <= last < n for last, (n, _, _) in zip(most, digits, strict=True)):
        return None
    return replace(target, shape=view.shape, strides=tuple(strides), offset=offset)


def may_overlap(a: View, b: View) -> bool:
    """Whether two views may share an element: False only where they surely do not."""
    if a.buffer != b.buffer:
        return False
    first, second = sorted((a, b), key=lambda view: view.offset)
    rest = second.offset - first.offset
    if a.strides == b.strides:  # boxes in one grid
        for s, n in sorted(zip(first.strides, first.shape, strict=True), reverse=True):
            count, rest = divmod(rest, s) if s else (0, rest)
            if count >= n:
                return False
        return True
    return rest <= sum(s * (n - 1) for s, n in zip(first.strides, first.shape, strict=True))


def in_eights(view: View) -> bool:
    """Whether channels lie next to each other, 8 of them always at a multiple of 8."""
    numbers = (view.offset, view.shape[1], view.pixel_step, view.strides[0])
    return view.strides[1] == 1 and not any(n % 8 for n in numbers)


def row_major(shape: Shape) -> Shape:
    """Strides of a tensor without gaps, last axis fastest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class Depthwise:
    """A convolution of each channel for itself: weight (C,1,kh,kw); act(x * w + b)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    activation: Activation = NOTHING


@dataclass(frozen=True, slots=True)
class Conv:
    """y = act(x * w + b [+ added]), or act(x * w + b) + added where ``late``.

    x, y (frames,C,H,W); weight (out, in/groups, kh, kw); ``pad``: at the top and left. ``before``:
    what x goes through first, where this is 1×1 and dense. ``also``: the result once more, each
    pixel repeated over as many as there are room for. ``scales``, (out,): the weights are whole
    multiples of them, from -128 to 127. ``table``: after the activation, before ``late``.
    ``parts``: how many blocks share each sum.
    """

    x: View
    y: View
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: Activation = NOTHING
    added: View | None = None
    late: bool = False
    name: str = ""
    before: Depthwise | None = None
    also: View | None = None
    scales: NDArray[np.float32] | None = None
    table: Table | None = None
    parts: int = 1

    @property
    def int8(self) -> bool:
        """Whether products are of bytes (kernels/conv_int8.cu)."""
        return self.x.quant is not None and self.scales is not None and self.before is None

    @property
    def window(self) -> Depthwise | Conv:
        """What has the stride, the padding and the size of the window."""
        return self.before or self

    @property
    def kernel(self) -> str:
        """Which of kernels/conv.cu does it: those of one kind share a launch. What ends in "int8"
        is of kernels/conv_int8.cu."""
        end = "_int8" * self.int8
        if self.groups == len(self.weight) and self.weight.shape[1] == 1:
            return "depthwise" + end
        return "fused" if self.before else "dense" + end

    @property
    def eight(self) -> bool:
        """Whether 8 channels of a pixel of x can be read at once, and written where each is
        convolved for itself."""
        if self.int8:
            return in_eights(self.x) and self.groups in (1, self.x.shape[1])
        if self.kernel == "depthwise":
            return all(in_eights(view) for view in (*reads(self), *writes(self)))
        return in_eights(self.x) and self.groups == 1 and not (self.before and self.x.shape[1] < 16)


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum or mean of windows; ``counted``: the mean's divisor counts padding."""

    x: View
    y: View
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """(frames,C,H,W) to (frames,C,H·ry,W·rx): nearest (floor, asymmetric), or linear (half-pixel
    centres)."""

    x: View
    y: View
    linear: bool
    half_pixel: bool


@dataclass(frozen=True, slots=True)
class Binary:
    """y = a op b, element by element; views already broadcast to y's shape."""

    a: View
    b: View
    y: View
    op: str
    activation: Activation = NOTHING
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class MatMul:
    """y = a b for the last two axes; up to 4 axes, those in front alike."""

    a: View
    b: View
    y: View


@dataclass(frozen=True, slots=True)
class Unary:
    """y = act(x); with ("none", …) and no table a copy, which may round."""

    x: View
    y: View
    activation: Activation = NOTHING
    table: Table | None = None

    @property
    def copies(self) -> bool:
        """Whether y is x, but for rounding."""
        return self.activation == NOTHING and self.table is None


@dataclass(frozen=True, slots=True)
class Softmax:
    """Over the last axis."""

    x: View
    y: View


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """(x - mean) / sqrt(variance + epsilon) · scale + shift over the last axis."""

    x: View
    scale: View
    shift: View
    y: View
    epsilon: float


@dataclass(frozen=True, slots=True)
class GridSample:
    """y (frames,C,oh,ow): x (frames,C,H,W) where ``grid`` (frames,oh,ow,2) says, -1 and 1 being the
    left and right (upper and lower) edges; linear, zeros outside."""

    x: View
    grid: View
    y: View


Step = Conv | Pool | Resize | Binary | MatMul | Unary | Softmax | LayerNorm | GridSample


def reads(step: Step) -> list[View]:
    """The views a step takes."""
    match step:
        case Binary() | MatMul():
            return [step.a, step.b]
        case Conv(added=View() as added):
            return [step.x, added]
        case LayerNorm():
            return [step.x, step.scale, step.shift]
        case GridSample():
            return [step.x, step.grid]
    return [step.x]


def writes(step: Step) -> list[View]:
    """The views a step gives."""
    match step:
        case Conv(also=View() as also):
            return [step.y, also]
    return [step.y]


def with_views(step: Any, change: Any) -> Any:
    """The step with ``change`` applied to each of its views."""
    views = {
        name: change(value)
        for name in step.__slots__
        if isinstance(value := getattr(step, name), View)
    }
    return replace(step, **views)
