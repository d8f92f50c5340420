"""How does a program run on the GPU? Weights uploaded once, then a list of launches a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.gpu.context import GpuContext
from app.gpu.kernel_files import load_kernel, load_module
from app.gpu.network.arena import Arena, plan
from app.gpu.network.lower import Program
from app.gpu.network.steps import Binary, Conv, Pool, Resize, Softmax, Step, Unary, View

KINDS = ("none", "clip", "leaky", "exp", "sigmoid", "silu", "hardsigmoid", "hardsilu")
OPERATIONS = ("add", "sub", "mul", "div")
AXES = 6  # that the strided kernels know
THREADS = 256
TILE = 64  # output channels and pixels of a block of `conv`
FLOAT_BYTES = 4


class Launch(NamedTuple):
    """One kernel with all it needs but the stream."""

    kernel: Callable[..., None]
    grid: tuple[int, ...]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]


class Weights:
    """A program's weights and kernels on the device: shared by all slots."""

    def __init__(self, context: GpuContext, program: Program) -> None:
        self._context, self.program = context, program
        self.arena: Arena = plan(program)
        conv, tensor = (load_module(context, name) for name in ("conv", "tensor"))
        numbers = "PPPPP" + "i" * 18 + "ffi"
        self.kernels = {
            "conv": load_kernel(conv, "conv", numbers),
            "conv_depthwise": load_kernel(conv, "conv_depthwise", numbers),
            "unary": load_kernel(tensor, "unary", "PP" + "i" * (1 + 5 + 2 * AXES + 1) + "ff"),
            "binary": load_kernel(tensor, "binary", "PPP" + "i" * (1 + 5 + 3 * AXES + 2) + "ff"),
            "pool": load_kernel(tensor, "pool", "PP" + "i" * 13),
            "resize": load_kernel(tensor, "resize", "PP" + "i" * 7),
            "softmax": load_kernel(tensor, "softmax", "PPi"),
        }
        convolutions = [step for step in program.steps if isinstance(step, Conv)]
        values = [part for c in convolutions for part in (c.weight.reshape(-1), c.bias)]
        self._memory = context.driver.mem_alloc(sum(v.nbytes for v in values) or FLOAT_BYTES)
        context.driver.memcpy_htod(self._memory, np.concatenate(values or [np.zeros(1, "f4")]))
        ends = np.cumsum([0, *(v.nbytes for v in values)])
        starts = [int(self._memory) + int(e) for e in ends]
        self.places = {
            id(c): (starts[2 * i], starts[2 * i + 1]) for i, c in enumerate(convolutions)
        }

    def close(self) -> None:
        """Free the weights."""
        self._memory.free()
        self.kernels.clear()


class Network:
    """One slot's arena and launches. ``input`` and ``outputs`` are device addresses in it."""

    def __init__(self, context: GpuContext, weights: Weights) -> None:
        self._weights, program = weights, weights.program
        self._memory = context.driver.mem_alloc(weights.arena.size * FLOAT_BYTES)
        for buffer, values in program.constants.items():
            address = int(self._memory) + weights.arena.offsets[buffer] * FLOAT_BYTES
            context.driver.memcpy_htod(address, values)
        self.input = self.address(program.input)
        self.outputs = [(self.address(v), v.shape) for v in program.outputs]
        self._launches = [launch for step in program.steps for launch in self._of(step)]

    def enqueue(self, stream: Any) -> None:
        """Put the whole network on a stream."""
        for kernel, grid, block, arguments in self._launches:
            kernel(grid, block, stream, *arguments)

    def varying(self) -> list[NDArray[np.float32]]:
        """None: every size is known."""
        return []

    def close(self) -> None:
        """Free the arena."""
        self._memory.free()
        self._launches.clear()

    def address(self, view: View) -> int:
        offset = self._weights.arena.offsets[view.buffer] + view.offset
        return int(self._memory) + offset * FLOAT_BYTES

    def _of(self, step: Step) -> Iterator[Launch]:
        kernels = self._weights.kernels
        match step:
            case Conv():
                yield self._conv(step)
            case Unary():
                count, sizes, steps = _strided(step.y, step.x)
                place = (self.address(step.x), self.address(step.y))
                numbers = (count, *sizes[1:], *steps[1], *steps[0], *_activation(step))
                yield Launch(kernels["unary"], *_per_element(count), (*place, *numbers))
            case Binary():
                count, sizes, steps = _strided(step.y, step.a, step.b)
                places = tuple(self.address(v) for v in (step.a, step.b, step.y))
                op = OPERATIONS.index(step.op)
                numbers = (count, *sizes[1:], *steps[1], *steps[2], *steps[0], op)
                numbers = (*numbers, *_activation(step))
                yield Launch(kernels["binary"], *_per_element(count), (*places, *numbers))
            case Pool():
                mean = 0 if step.kind == "max" else 2 if step.counted else 1
                numbers = (*step.kernel, *step.stride, *step.pad, mean)
                yield self._per_plane("pool", step, numbers)
            case Resize():
                mode = 0 if not step.linear else 1 if step.half_pixel else 2
                yield self._per_plane("resize", step, (mode,))
            case Softmax():
                columns = step.x.shape[-1]
                places = (self.address(step.x), self.address(step.y), columns)
                yield Launch(kernels["softmax"], (step.x.size // columns, 1), (32, 1, 1), places)

    def _per_plane(self, name: str, step: Pool | Resize, numbers: tuple[int, ...]) -> Launch:
        (_, channels, *x_hw), (_, _, *y_hw) = step.x.shape, step.y.shape
        places = (self.address(step.x), self.address(step.y))
        sizes = (*x_hw, _plane_step(step.x), *y_hw, _plane_step(step.y))
        grid = (-(-prod(y_hw) // THREADS), channels)
        return Launch(
            self._weights.kernels[name], grid, (THREADS, 1, 1), (*places, *sizes, *numbers)
        )

    def _conv(self, step: Conv) -> Launch:
        (_, in_c, *x_hw), (_, out_c, *y_hw) = step.x.shape, step.y.shape
        out_group, in_group, kh, kw = len(step.weight) // step.groups, *step.weight.shape[1:]
        depthwise = in_group == 1 and out_group == 1
        weight, bias = self._weights.places[id(step)]
        places = (
            self.address(step.x),
            weight,
            bias,
            0 if step.added is None else self.address(step.added),
            self.address(step.y),
        )
        numbers = (
            *(in_c // step.groups, *x_hw, _plane_step(step.x)),
            *(out_c // step.groups, *y_hw, _plane_step(step.y)),
            0 if step.added is None else _plane_step(step.added),
            *(kh, kw, *step.stride, *step.pad, *step.dilation),
            *(*_activation(step), int(step.late)),
        )
        if depthwise:
            grid: tuple[int, ...] = (-(-prod(y_hw) // THREADS), out_c)
        else:
            grid = (-(-prod(y_hw) // TILE), -(-out_group // TILE), step.groups)
        kernel = self._weights.kernels["conv_depthwise" if depthwise else "conv"]
        return Launch(kernel, grid, (THREADS, 1, 1), (*places, *numbers))


def _plane_step(view: View) -> int:
    """Elements from one channel to the next."""
    return view.strides[1] if view.shape[1] > 1 else prod(view.shape[2:])


def _per_element(count: int) -> tuple[tuple[int, int], tuple[int, int, int]]:
    return (-(-count // THREADS), 1), (THREADS, 1, 1)


def _activation(step: Conv | Unary | Binary) -> tuple[int, np.float32, np.float32]:
    kind, p, q = step.activation
    return KINDS.index(kind), np.float32(p), np.float32(q)


def _strided(*views: View) -> tuple[int, list[int], list[list[int]]]:
    """Count, sizes of the first view and strides of all, filled up to AXES axes in front."""
    missing = AXES - len(views[0].shape)
    sizes = [1] * missing + list(views[0].shape)
    return views[0].size, sizes, [[0] * missing + list(v.strides) for v in views]


def download(context: GpuContext, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor from the device, at once; for tests and warm-up."""
    values = np.empty(shape, np.float32)
    context.driver.memcpy_dtoh(values, address)
    return values
