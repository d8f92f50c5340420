"""Kernel, grid and arguments of each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..context import GpuContext
from ..kernels import load_kernel, load_module
from .autotune import ConvAutotuner, ConvTile
from .ir import Binary, Conv, Pool, Resize, Softmax, Step, Unary, View, reads
from .operators import AXES

KINDS = ("none", "clip", "leaky", "exp", "sigmoid", "silu", "hardsigmoid", "hardsilu")
OPERATIONS = ("add", "sub", "mul", "div")
THREADS = 256
ROW = 32  # a row of weights is filled up to a multiple of so many: kernels read whole pieces
SIGNATURES = {  # of the kernels in tensor.cu; all of conv.cu take the same
    "unary": "PP" + "i" * (1 + 5 + 2 * AXES + 1) + "ff",
    "binary": "PPP" + "i" * (1 + 5 + 3 * AXES + 2) + "ff",
    "pool": "PP" + "i" * 15,
    "resize": "PP" + "i" * 9,
    "softmax": "PPi",
}
CONV_SIGNATURE = "PPPPP" + "i" * 23 + "ffi"


class Launch(NamedTuple):
    """One kernel with all it needs but the stream."""

    kernel: Callable[..., None]
    grid: tuple[int, ...]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]

    def __call__(self, stream: Any) -> None:
        self.kernel(self.grid, self.block, stream, *self.arguments)


def _kernel(
    context: GpuContext, file: str, name: str, *, half_in: bool, half_out: bool
) -> Callable[..., None]:
    module = load_module(context, file, defines=["HALF_IN"] * half_in + ["HALF_OUT"] * half_out)
    return load_kernel(module, name, CONV_SIGNATURE if file == "conv" else SIGNATURES[name])


@dataclass(frozen=True, slots=True)
class BufferAddresses:
    """Where views and weights lie on the device, and which buffers are in half precision."""

    address: Callable[[View], int]
    weights: Mapping[int, tuple[int, int]]  # id of a Conv: its weights and its biases
    half: frozenset[int]

    def types(self, step: Step) -> dict[str, bool]:
        """Whether a step reads, and whether it writes, half precision."""
        first, half = reads(step)[0], self.half
        return {"half_in": first.buffer in half, "half_out": step.y.buffer in half}


def launch_of(
    step: Step, context: GpuContext, addresses: BufferAddresses, autotuner: ConvAutotuner
) -> Launch:
    """What a step puts on the stream."""
    types = {view.buffer in addresses.half for view in reads(step)}
    alike = len(types) == 1 or isinstance(step, Conv)
    if isinstance(step, Conv) and step.added is not None:
        alike = (step.added.buffer in addresses.half) == (step.y.buffer in addresses.half)
    assert alike, f"{step} mixes half precision and float32; please report this"
    if isinstance(step, Conv):
        return _convolution(step, context, addresses, autotuner)
    name = type(step).__name__.lower()
    kernel = _kernel(context, "tensor", name, **addresses.types(step))
    match step:
        case Unary() | Binary():
            views = (*reads(step), step.y)
            count, sizes, strides = _strided(step.y, *views)
            op = [OPERATIONS.index(step.op)] if isinstance(step, Binary) else []
            numbers = (count, *sizes[1:], *strides, *op, *_activation(step))
            arguments = (*map(addresses.address, views), *numbers)
            return Launch(kernel, (-(-count // THREADS), 1), (THREADS, 1, 1), arguments)
        case Pool():
            mean = 0 if step.kind == "max" else 2 if step.counted else 1
            numbers = (*step.kernel, *step.stride, *step.pad, mean)
            return _per_plane(kernel, step, addresses, numbers)
        case Resize():
            mode = 0 if not step.linear else 1 if step.half_pixel else 2
            return _per_plane(kernel, step, addresses, (mode,))
        case Softmax():
            columns = step.x.shape[-1]
            at = (addresses.address(step.x), addresses.address(step.y), columns)
            return Launch(kernel, (step.x.size // columns, 1), (32, 1, 1), at)


def _per_plane(
    kernel: Callable[..., None],
    step: Pool | Resize,
    addresses: BufferAddresses,
    numbers: tuple[int, ...],
) -> Launch:
    (frames, channels, *x_hw), (_, _, *y_hw) = step.x.shape, step.y.shape
    at = (addresses.address(step.x), addresses.address(step.y))
    sizes = (*x_hw, *_plane_and_frame(step.x), *y_hw, *_plane_and_frame(step.y))
    grid = (-(-prod(y_hw) // THREADS), channels, frames)
    return Launch(kernel, grid, (THREADS, 1, 1), (*at, *sizes, *numbers))


def _convolution(
    step: Conv, context: GpuContext, addresses: BufferAddresses, autotuner: ConvAutotuner
) -> Launch:
    (frames, in_c, *x_hw), (_, out_c, *y_hw) = step.x.shape, step.y.shape
    out_group, in_group, *side = len(step.weight) // step.groups, *step.weight.shape[1:]
    types = addresses.types(step)
    arguments = (
        addresses.address(step.x),
        *addresses.weights[id(step)],
        0 if step.added is None else addresses.address(step.added),
        addresses.address(step.y),
        *(in_c // step.groups, *x_hw, *_plane_and_frame(step.x)),
        *(out_c // step.groups, *y_hw, *_plane_and_frame(step.y)),
        *((0, 0) if step.added is None else _plane_and_frame(step.added)),
        *(row_step(step), step.groups),
        *(*side, *step.stride, *step.pad, *step.dilation),
        *(*_activation(step), int(step.late)),
    )
    if in_group == 1 and out_group == 1:
        kernel = _kernel(context, "conv", "conv_depthwise", **types)
        grid: tuple[int, ...] = (-(-prod(y_hw) // THREADS), out_c, frames)
        return Launch(kernel, grid, (THREADS, 1, 1), arguments)
    known = side[0] if side in ([1, 1], [3, 3]) else 0

    def launch(tile: ConvTile) -> Launch:
        kernel = _kernel(context, "conv", f"conv_{tile.channels}x{tile.pixels}_{known}", **types)
        across, down = -(-prod(y_hw) // tile.pixels), -(-out_group // tile.channels)
        grid = (across, down, step.groups * frames)
        threads = 256 if tile == ConvTile(64, 64) and not types["half_in"] else 128
        return Launch(kernel, grid, (threads, 1, 1), arguments)

    size = (out_group, prod(y_hw), step.groups * frames)
    return launch(autotuner.choose(size, (*types.values(), frames, *arguments[5:]), launch))


def row_step(step: Conv) -> int:
    """Elements from one output channel's weights to the next's, as they lie on the device."""
    return -(-int(step.weight[0].size) // ROW) * ROW


def _plane_and_frame(view: View) -> tuple[int, int]:
    """Elements from one channel to the next, and from one frame to the next (0: there is one)."""
    plane = view.strides[1] if view.shape[1] > 1 else prod(view.shape[2:])
    return plane, view.strides[0] if view.shape[0] > 1 else 0


def _activation(step: Conv | Unary | Binary) -> tuple[int, np.float32, np.float32]:
    kind, p, q = step.activation
    return KINDS.index(kind), np.float32(p), np.float32(q)


def _strided(whole: View, *views: View) -> tuple[int, list[int], list[int]]:
    """Count and sizes of a view, and strides of all, filled up to AXES axes in front."""
    missing = AXES - len(whole.shape)
    strides = [s for view in views for s in (*[0] * missing, *view.strides)]
    return whole.size, [*[1] * missing, *whole.shape], strides
