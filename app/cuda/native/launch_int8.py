"""Kernel, grid and arguments of steps that read or write bytes, and what of them lies on the device
(kernels/conv_int8.cu)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..context import GpuContext
from ..kernels import kernels_digest, load_kernel, load_module
from .autotune import ConvAutotuner, ConvTile
from .builder import AXES
from .ir import Binary, Conv, Quant, Step, Table, Unary, View
from .launch import (
    KINDS,
    OPERATIONS,
    THREADS,
    BufferAddresses,
    Launch,
    distances,
    strided,
)
from .quantise import in_bytes
from .schedule import MOST

ROW = 64  # a row of weights is filled up to a multiple of so many bytes
FLOAT, HALF, BYTE = range(3)
MIXED = "PPPP" + "i" * (1 + 5 + 3 * AXES + 3 + 2) + "f" * 10
CONV = np.dtype([("at", np.uint64, 7), ("numbers", np.int32, 37), ("p", np.float32, 8)], align=True)
GROUP = np.dtype(
    [("members", CONV, MOST), ("first", np.int32, MOST), ("count", np.int32)], align=True
)
ONE = Quant(1.0)  # for what is not quantised


def of_bytes(wave: Sequence[Step]) -> bool:
    """Whether a launch is of kernels/conv_int8.cu; maxima and the like of bytes as they are, of
    kernels/tensor.cu, are not."""
    return isinstance(wave[0], Conv | Unary | Binary) and in_bytes(wave[0])


def parts_of(step: Step) -> list[NDArray[Any]]:
    """What lies on the device of such a step, in the order of ``Stored``: weights, what follows
    each sum, and a table; a zero for what there is none of."""
    none = np.zeros(1, np.float32)
    table = getattr(step, "table", None)
    last = none if table is None else np.ascontiguousarray(table.values, np.float32)
    return [*((_weights(step), _ends(step)) if isinstance(step, Conv) else (none, none)), last]


def _whole(step: Conv) -> NDArray[np.float32]:
    """The weights in bytes."""
    assert step.scales is not None
    return np.asarray(np.rint(step.weight / step.scales[:, None, None, None]), np.float32)


def _weights(step: Conv) -> NDArray[np.int8]:
    whole = _whole(step).astype(np.int8)
    if step.kernel.startswith("depthwise"):
        return np.ascontiguousarray(whole[:, 0].transpose(1, 2, 0))
    flat = whole.transpose(0, 2, 3, 1).reshape(len(whole), -1)
    return np.pad(flat, ((0, 0), (0, _row_step(step) - flat.shape[1])))


def _ends(step: Conv) -> NDArray[np.int32]:
    """(out, 4) words: scale and bias, both float, the sum's start, nothing."""
    assert step.x.quant is not None and step.scales is not None
    ends = np.zeros((len(step.weight), 4), np.int32)
    ends[:, 0] = (step.scales * np.float32(step.x.quant.scale)).view(np.int32)
    ends[:, 1] = np.ascontiguousarray(step.bias, np.float32).view(np.int32)
    if not step.kernel.startswith("depthwise"):
        ends[:, 2] = -step.x.quant.zero * _whole(step).sum((1, 2, 3)).astype(np.int64)
    return ends


def _row_step(step: Conv) -> int:
    if step.kernel.startswith("depthwise"):
        return len(step.weight)
    return -(-int(step.weight[0].size) // ROW) * ROW


def width_of(step: Conv) -> int:
    """So many channels of a pixel are read at once."""
    x = step.x
    numbers = (x.offset, x.shape[1], x.pixel_step, x.strides[0])
    return 1 if not step.eight else 8 if any(n % 16 for n in numbers) else 16


def launch_of_bytes(
    wave: Sequence[Step], context: GpuContext, addresses: BufferAddresses, autotuner: ConvAutotuner
) -> Launch:
    """What the steps of a wave put on the stream: convolutions of a kind, or another step."""
    convolutions = [step for step in wave if isinstance(step, Conv)]
    if convolutions:
        return _convolutions(convolutions, context, addresses, autotuner)
    (step,) = wave
    assert isinstance(step, Unary | Binary)
    a, b = (step.a, step.b) if isinstance(step, Binary) else (step.x, None)
    views = [a, a if b is None else b, step.y]
    count, sizes, strides = strided(step.y, *views)
    types = [_type(view, addresses) for view in views]
    op = OPERATIONS.index(step.op) if isinstance(step, Binary) else 0
    kind, *p = step.activation
    at = (addresses.address(a), 0 if b is None else addresses.address(b), addresses.address(step.y))
    numbers = (count, *sizes[1:], *strides, *types, op, KINDS.index(kind), *p)
    scales = [n for view in views for n in _scale(view.quant)]
    arguments = (*at, _table(step, addresses), *numbers, *scales, *_scale(_quant(step.table)))
    kernel = load_kernel(load_module(context, "conv_int8"), "mixed", MIXED)
    return Launch(kernel, (-(-count // THREADS), 1), (THREADS, 1, 1), arguments)


def _table(step: Conv | Unary | Binary, addresses: BufferAddresses) -> int:
    return addresses.weights[id(step)].first_weights if step.table else 0


def _quant(table: Table | None) -> Quant | None:
    return None if table is None else table.quant


def _scale(quant: Quant | None) -> tuple[float, float]:
    return (quant or ONE).scale, float((quant or ONE).zero)


def _type(view: View, addresses: BufferAddresses) -> int:
    return BYTE if view.quant else HALF if view.buffer in addresses.half else FLOAT


def _convolutions(
    steps: Sequence[Conv],
    context: GpuContext,
    addresses: BufferAddresses,
    autotuner: ConvAutotuner,
) -> Launch:
    members = [_member(step, addresses) for step in steps]
    name = steps[0].kernel.removesuffix("_int8")

    def launch(kernel: str, blocks: Sequence[int], threads: int) -> Launch:
        group = np.zeros((), GROUP)
        group["members"][: len(steps)] = members
        group["first"][: len(steps)] = np.cumsum([0, *blocks[:-1]])
        group["count"] = len(steps)
        module = load_module(context, "conv_int8", defines=["WIDE"] * steps[0].eight)
        how = load_kernel(module, kernel, [f"{GROUP.itemsize}s"])
        return Launch(how, (sum(blocks), 1), (threads, 1, 1), (group.tobytes(),))

    if name == "depthwise":
        together = [THREADS * (4 if width_of(step) > 1 else 1) for step in steps]
        blocks = [-(-s.y.size // values) for s, values in zip(steps, together, strict=True)]
        return launch(name, blocks, THREADS)
    sizes = [
        (len(s.weight) // s.groups, prod(s.y.shape[2:]), s.groups * s.y.shape[0]) for s in steps
    ]

    def tiled(tile: ConvTile) -> Launch:
        return launch(
            f"dense_{tile.channels}x{tile.pixels}", [tile.blocks(size) for size in sizes], 128
        )

    signature = ("int8", kernels_digest(), *(str(member[1:]) for member in members))
    return tiled(autotuner.choose(sizes, signature, tiled))


def _member(
    step: Conv, addresses: BufferAddresses
) -> tuple[Sequence[int], Sequence[int], Sequence[float]]:
    """A record of CONV."""
    (frames, in_c, *x_hw), (_, out_c, *y_hw) = step.x.shape, step.y.shape
    at, views = addresses.weights[id(step)], (step.x, step.added, step.y, step.also)
    x, added, y, also = (0 if v is None else addresses.address(v) for v in views)
    x_lie, added_lie, y_lie, also_lie = ((0, 0, 0) if v is None else distances(v) for v in views)
    larger = [0 if step.also is None else step.also.shape[i] // step.y.shape[i] for i in (2, 3)]
    types = [0 if v is None else _type(v, addresses) for v in (step.added, step.y, step.also)]
    assert step.also is None or types[1] == types[2], f"{step} gives two types"
    assert step.x.quant is not None
    kind, *p = step.activation
    numbers = [in_c // step.groups, *x_hw, *x_lie, out_c // step.groups, *y_hw, *y_lie]
    numbers += [*added_lie, *also_lie, *larger]
    numbers += [*step.weight.shape[2:], *step.stride, *step.pad, *step.dilation]
    numbers += [frames, _row_step(step), step.groups, KINDS.index(kind), int(step.late)]
    numbers += [step.x.quant.zero, width_of(step), *types[:2]]
    quants = (_quant(step.table), None if step.added is None else step.added.quant, step.y.quant)
    pointers = [x, at.weights, at.biases, _table(step, addresses), added, y, also]
    return pointers, numbers, [*p, *(n for quant in quants for n in _scale(quant))]
