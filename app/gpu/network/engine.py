"""How does a program run on the GPU? Weights uploaded once, then a list of launches a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelError
from app.gpu.context import GpuContext
from app.gpu.network.arena import Arena, plan
from app.gpu.network.launches import Kernels, Launch, Places, launches_of, row_step
from app.gpu.network.lower import Program
from app.gpu.network.precision import halved
from app.gpu.network.steps import Conv, View
from app.gpu.network.tiles import Tiles

ALIGNMENT = 256  # bytes
LARGEST_HALF = 65504


class Weights:
    """A program's weights and kernels on the device: shared by all slots.

    ``half``: with the tensor cores, in half precision where that is good enough. ``tune``: choose
    each convolution's tile by measuring, once per device; else by rule.
    """

    def __init__(
        self, context: GpuContext, program: Program, *, half: bool = False, tune: bool = False
    ) -> None:
        self.program = program = halved(program) if half else program
        self.arena: Arena = plan(program)
        self.kernels = Kernels(context)
        self.tiles = Tiles(context, tune=tune)
        convolutions = [step for step in program.steps if isinstance(step, Conv)]
        parts: list[NDArray[Any]] = []
        for step in convolutions:
            rows = _stored(_rows(step), step.x.buffer in program.half)
            parts += [rows, step.bias.astype(np.float32)]
        ends = np.cumsum([0, *(-(-part.nbytes // ALIGNMENT) * ALIGNMENT for part in parts)])
        self._memory = context.driver.mem_alloc(max(int(ends[-1]), ALIGNMENT))
        starts = [int(self._memory) + int(end) for end in ends]
        for start, part in zip(starts, parts, strict=False):
            context.driver.memcpy_htod(start, part)
        self.places = {
            id(step): (starts[2 * i], starts[2 * i + 1]) for i, step in enumerate(convolutions)
        }

    def close(self) -> None:
        """Free the weights."""
        self._memory.free()
        self.kernels.close()


class Network:
    """One slot's arena and launches. ``input`` and ``outputs`` are device addresses in it."""

    def __init__(self, context: GpuContext, weights: Weights) -> None:
        self._weights = weights
        self._memory = context.driver.mem_alloc(max(weights.arena.size, ALIGNMENT))
        try:
            self._fill(context)
        except BaseException:  # nobody else knows of it yet
            self._memory.free()
            raise

    def _fill(self, context: GpuContext) -> None:
        """Constants into the arena; which launches with which addresses."""
        weights, program = self._weights, self._weights.program
        for buffer, values in program.constants.items():
            address = int(self._memory) + weights.arena.offsets[buffer]
            context.driver.memcpy_htod(address, _stored(values, buffer in program.half))
        self.input = self.address(program.input)
        self.input_half = program.input.buffer in program.half
        self.outputs = [(self.address(v), v.shape) for v in program.outputs]
        places = Places(self.address, weights.places, program.half)
        self._launches: list[Launch] = [
            launch
            for step in program.steps
            for launch in launches_of(step, weights.kernels, places, weights.tiles)
        ]
        weights.tiles.keep()

    def enqueue(self, stream: Any) -> None:
        """Put the whole network on a stream."""
        for launch in self._launches:
            launch(stream)

    def varying(self) -> list[NDArray[np.float32]]:
        """None: every size is known."""
        return []

    def close(self) -> None:
        """Free the arena."""
        self._memory.free()
        self._launches.clear()

    def address(self, view: View) -> int:
        offset = view.offset * self._weights.program.itemsize(view.buffer)
        return int(self._memory) + self._weights.arena.offsets[view.buffer] + offset


def _stored(values: NDArray[np.float32], half: bool) -> NDArray[Any]:
    """In the type that kernels read. Raises ModelError for numbers that no half is."""
    if half and np.abs(values).max(initial=0) > LARGEST_HALF:
        raise ModelError(
            f"the network has numbers beyond {LARGEST_HALF}, the largest in half precision: "
            "use --precision fp32"
        )
    return np.ascontiguousarray(values, np.float16 if half else np.float32)


def _rows(step: Conv) -> NDArray[np.float32]:
    """The weights, a row for each output channel, filled up with zeros."""
    flat = step.weight.reshape(len(step.weight), -1)
    return np.pad(flat, ((0, 0), (0, row_step(step) - flat.shape[1])))


def download(context: GpuContext, address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor from the device, at once; for tests and warm-up."""
    values = np.empty(shape, np.float32)
    context.driver.memcpy_dtoh(values, address)
    return values
