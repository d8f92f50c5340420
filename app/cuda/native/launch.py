"""Kernel, grid and arguments of the steps of a launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..context import GpuContext
from ..kernels import load_kernel, load_module
from .autotune import ConvAutotuner, ConvTile, size_of
from .builder import AXES
from .ir import (
    NOTHING,
    Binary,
    Conv,
    GridSample,
    LayerNorm,
    MatMul,
    Pool,
    Resize,
    Softmax,
    Step,
    Unary,
    View,
    in_eights,
    reads,
)
from .schedule import MOST

KINDS = (
    "none",
    "clip",
    "leaky",
    "exp",
    "sigmoid",
    "silu",
    "hardsigmoid",
    "hardsilu",
    "erf",
    "sqrt",
)
OPERATIONS = ("add", "sub", "mul", "div")
THREADS = 256
TILE = 16  # of matmul: a block computes so many rows and columns
ROW = 32  # a row of weights is filled up to a multiple of so many: kernels read whole pieces
SIGNATURES = {  # of the kernels in tensor.cu
    "unary": "PP" + "i" * (1 + 5 + 2 * AXES + 1) + "ff",
    "binary": "PPP" + "i" * (1 + 5 + 3 * AXES + 2) + "ff",
    "pool": "PP" + "i" * 19,
    "resize": "PP" + "i" * 13,
    "softmax": "PPi",
    "matmul": "PPP" + "i" * 16,
    "layernorm": "PPPPif",
    "gridsample": "PPP" + "i" * 13,
}
# as in conv.cu: pointers, whole numbers, parameters of activations
CONV = np.dtype([("at", np.uint64, 8), ("numbers", np.int32, 36), ("p", np.float32, 4)], align=True)
GROUP = np.dtype(
    [
        *[("members", CONV, MOST), ("first", np.int32, MOST), ("count", np.int32)],
        *[("sums", np.uint64), ("counted", np.uint64)],
    ],
    align=True,
)
Shared = tuple[int, int]  # addresses of parts of sums, and of their counters


class Launch(NamedTuple):
    """One kernel with all it needs but the stream."""

    kernel: Callable[..., None]
    grid: tuple[int, ...]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]

    def __call__(self, stream: Any) -> None:
        self.kernel(self.grid, self.block, stream, *self.arguments)


def _kernel(
    context: GpuContext,
    file: str,
    name: str,
    *,
    half_in: bool,
    half_out: bool,
    eight: bool = False,
    int8: bool = False,
) -> Callable[..., None]:
    words = ["HALF_IN"] * half_in + ["HALF_OUT"] * half_out + ["EIGHT"] * eight
    words = ["INT8"] if int8 else words
    signature = [f"{GROUP.itemsize}s"] if file == "conv" else SIGNATURES[name]
    return load_kernel(load_module(context, file, defines=words), name, signature)


class Stored(NamedTuple):
    """Device addresses of a convolution's weights and biases, and of those of the one before."""

    weights: int
    biases: int
    first_weights: int = 0
    first_biases: int = 0


@dataclass(frozen=True, slots=True)
class BufferAddresses:
    """Where views and weights lie on the device, and which buffers are in half precision."""

    address: Callable[[View], int]
    weights: Mapping[int, Stored]  # by the id of a Conv
    half: frozenset[int]

    def types(self, step: Step) -> dict[str, bool]:
        """Whether a step reads, and whether it writes, half precision."""
        first, half = reads(step)[0], self.half
        return {"half_in": first.buffer in half, "half_out": step.y.buffer in half}


def launch_of(
    wave: Sequence[Step],
    context: GpuContext,
    addresses: BufferAddresses,
    autotuner: ConvAutotuner,
    shared: Shared = (0, 0),
) -> Launch:
    """What the steps of a wave put on the stream: convolutions of a kind, or another step."""
    for step in wave:
        types = {view.buffer in addresses.half for view in reads(step)}
        alike = len(types) == 1 or isinstance(step, Conv | GridSample)
        if isinstance(step, Conv):
            half_out = step.y.buffer in addresses.half
            others = [v for v in (step.added, step.also) if v is not None]
            alike = all((v.buffer in addresses.half) == half_out for v in others)
        assert alike, f"{step} mixes half precision and float32; please report this"
    convolutions = [step for step in wave if isinstance(step, Conv)]
    if convolutions:
        return _convolutions(convolutions, context, addresses, autotuner, shared)
    (step,) = wave
    name = type(step).__name__.lower()
    as_bytes = step.y.quant is not None  # and so is x, in which no number is new
    kernel = _kernel(context, "tensor", name, **addresses.types(step), int8=as_bytes)
    match step:
        case Unary() | Binary():
            views = (*reads(step), step.y)
            count, sizes, strides = strided(step.y, *views)
            op = [OPERATIONS.index(step.op)] if isinstance(step, Binary) else []
            kind, *p = step.activation
            numbers = (count, *sizes[1:], *strides, *op, KINDS.index(kind), *p)
            arguments = (*map(addresses.address, views), *numbers)
            return Launch(kernel, (-(-count // THREADS), 1), (THREADS, 1, 1), arguments)
        case Pool():
            mean = 0 if step.kind == "max" else 2 if step.counted else 1
            numbers = (*step.kernel, *step.stride, *step.pad, mean)
            return _per_plane(kernel, step, addresses, numbers)
        case Resize():
            mode = 0 if not step.linear else 1 if step.half_pixel else 2
            return _per_plane(kernel, step, addresses, (mode,))
        case MatMul():
            views = (step.a, step.b, step.y)
            (*many, m, n), k = step.y.shape, step.a.shape[-1]
            front = [0] * (4 - len(step.y.shape))
            strides = [s for view in views for s in (*front, *view.strides)]
            numbers = (m, n, k, many[-1] if many else 1, *strides)
            grid = (-(-m // TILE) * -(-n // TILE) * prod(many), 1)
            return Launch(
                kernel, grid, (TILE * TILE, 1, 1), (*map(addresses.address, views), *numbers)
            )
        case Softmax():
            columns = step.x.shape[-1]
            at = (addresses.address(step.x), addresses.address(step.y), columns)
            return Launch(kernel, (step.x.size // columns, 1), (32, 1, 1), at)
        case LayerNorm():
            columns = step.x.shape[-1]
            at_all = map(addresses.address, (step.x, step.scale, step.shift, step.y))
            grid = (step.x.size // columns, 1)
            return Launch(kernel, grid, (32, 1, 1), (*at_all, columns, step.epsilon))
        case GridSample():
            half_grid = int(step.grid.buffer in addresses.half)
            return _per_plane(kernel, step, addresses, (half_grid,), step.grid)
    raise AssertionError("a convolution")


def _per_plane(
    kernel: Callable[..., None],
    step: Pool | Resize | GridSample,
    addresses: BufferAddresses,
    numbers: tuple[int, ...],
    *others: View,
) -> Launch:
    at = map(addresses.address, (step.x, *others, step.y))
    planes = (n for v in (step.x, step.y) for n in (*v.shape[2:], *distances(v)))
    arguments = (*at, step.y.size, step.y.shape[1], *planes, *numbers)
    return Launch(kernel, (-(-step.y.size // THREADS), 1), (THREADS, 1, 1), arguments)


def _convolutions(
    steps: Sequence[Conv],
    context: GpuContext,
    addresses: BufferAddresses,
    autotuner: ConvAutotuner,
    shared: Shared,
) -> Launch:
    first = steps[0]
    types, name = addresses.types(first), first.kernel
    members = [_member(step, addresses, wide=types["half_out"]) for step in steps]
    how = {**types, "eight": types["half_in"] and first.eight}

    def launch(kernel: str, blocks: Sequence[int], threads: int) -> Launch:
        group = np.zeros((), GROUP)
        group["members"][: len(steps)] = members
        group["first"][: len(steps)] = np.cumsum([0, *blocks[:-1]])
        group["count"], group["sums"], group["counted"] = len(steps), *shared
        grid = (sum(blocks), 1)
        arguments = (group.tobytes(),)
        return Launch(_kernel(context, "conv", kernel, **how), grid, (threads, 1, 1), arguments)

    if name == "depthwise":
        values = THREADS * (8 if how["eight"] else 1)  # of a block
        return launch(name, [-(-step.y.size // values) for step in steps], THREADS)
    sizes = [size_of(step) for step in steps]

    def tiled(tile: ConvTile) -> Launch:
        threads = 256 if tile == ConvTile(64, 64) and not types["half_in"] else 128
        blocks = [tile.blocks(size) for size in sizes]
        return launch(f"{name}_{tile.channels}x{tile.pixels}", blocks, threads)

    signature = (name, *how.values(), *(str(member[1:]) for member in members))
    return tiled(autotuner.choose(sizes, signature, tiled))


def _member(
    step: Conv, addresses: BufferAddresses, *, wide: bool
) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
    """A record of CONV."""
    (frames, in_c, *x_hw), (_, out_c, *y_hw) = step.x.shape, step.y.shape
    stored, window = addresses.weights[id(step)], step.window
    views = step.x, step.added, step.y, step.also
    x, added, y, also = (0 if v is None else addresses.address(v) for v in views)
    x_lie, added_lie, y_lie, also_lie = ((0, 0, 0) if v is None else distances(v) for v in views)
    larger = [0 if step.also is None else step.also.shape[i] // step.y.shape[i] for i in (2, 3)]
    kind, *p = step.activation
    first_kind, *first_p = NOTHING if step.before is None else step.before.activation
    eights = all(in_eights(view) for view in views[1:] if view is not None)
    pointers = [x, stored.weights, stored.first_weights, stored.biases, stored.first_biases]
    numbers = [in_c // step.groups, *x_hw, *x_lie, out_c // step.groups, *y_hw, *y_lie]
    numbers += [*added_lie, *also_lie, *larger]
    numbers += [*window.weight.shape[2:], *window.stride, *window.pad, *window.dilation]
    numbers += [frames, row_step(step), step.groups, KINDS.index(kind), KINDS.index(first_kind)]
    numbers += [int(step.late), int(wide and step.groups == 1 and eights), step.parts]
    return [*pointers, added, y, also], numbers, [*p, *first_p]


def row_step(step: Conv) -> int:
    """Elements from one row of weights to the next, as they lie on the device: from an output
    channel to the next, or where each is convolved for itself from a tap to the next."""
    if step.kernel == "depthwise":
        return len(step.weight)
    return -(-int(step.weight[0].size) // ROW) * ROW


def distances(view: View) -> tuple[int, int, int]:
    """Elements from a channel to the next, from a pixel, and from a frame (0: there is one)."""
    return view.strides[1], view.pixel_step, view.strides[0]


def strided(whole: View, *views: View) -> tuple[int, list[int], list[int]]:
    """Count and sizes of a view, and strides of all, filled up to AXES axes in front; neighbours of
    ``whole`` are neighbours."""
    order = sorted(range(len(whole.shape)), key=lambda axis: -whole.strides[axis])
    missing = [0] * (AXES - len(order))
    strides = [s for view in views for s in (*missing, *view.permuted(order).strides)]
    return whole.size, [*(1 for _ in missing), *whole.permuted(order).shape], strides
