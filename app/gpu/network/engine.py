"""How does a program run on the GPU? Weights uploaded once, then a list of launches a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
    """A network's weights, constants and kernels on the device: shared by all slots.

    ``programs``: the network for 1 frame, and for more at once, rising. ``half``: with the tensor
    cores, in half precision where that is good enough. ``tune``: choose each convolution's tile by
    measuring, once per device; else by rule.
    """

    def __init__(
        self,
        context: GpuContext,
        programs: Sequence[Program],
        *,
        half: bool = False,
        tune: bool = False,
    ) -> None:
        self.programs = [halved(program) if half else program for program in programs]
        self.arenas: list[Arena] = [plan(program) for program in self.programs]
        self.kernels = Kernels(context)
        self.tiles = Tiles(context, tune=tune)
        store = _Store()
        convolutions: dict[int, tuple[int, int]] = {}
        constants: list[dict[int, int]] = []
        for program in self.programs:
            for step in program.steps:
                if isinstance(step, Conv):
                    rows = _stored(_rows(step), step.x.buffer in program.half)
                    convolutions[id(step)] = store.add(rows), store.add(_stored(step.bias, False))
            constants.append(
                {b: store.add(_stored(v, b in program.half)) for b, v in program.constants.items()}
            )
        self._memory = context.driver.mem_alloc(max(store.nbytes, ALIGNMENT))
        base = int(self._memory)
        for offset, part in store.parts.items():
            context.driver.memcpy_htod(base + offset, part)
        self.places = {key: (base + w, base + b) for key, (w, b) in convolutions.items()}
        self.constants = [{b: base + at for b, at in some.items()} for some in constants]

    def close(self) -> None:
        """Free the weights."""
        self._memory.free()
        self.kernels.close()


class Network:
    """One slot's memory, in which its runs take turns: each for a number of frames."""

    def __init__(self, context: GpuContext, weights: Weights) -> None:
        size = max(arena.size for arena in weights.arenas)
        self._memory = context.driver.mem_alloc(max(size, ALIGNMENT))
        try:
            base = int(self._memory)
            self._runs = [Run(weights, base, i) for i in range(len(weights.programs))]
        except BaseException:  # nobody else knows of it yet
            self._memory.free()
            raise
        weights.tiles.keep()
        self.input_half = self._runs[0].input_half

    def run_for(self, frames: int) -> Run:
        """The smallest that has room for so many."""
        return next(run for run in self._runs if run.frames >= frames)

    def close(self) -> None:
        """Free the memory."""
        self._memory.free()
        for run in self._runs:
            run.close()


class Run:
    """The launches for ``frames`` frames. ``input`` and ``outputs`` are device addresses."""

    def __init__(self, weights: Weights, memory: int, index: int) -> None:
        program, arena = weights.programs[index], weights.arenas[index]
        constants = weights.constants[index]

        def address(view: View) -> int:
            start = constants.get(view.buffer, memory + arena.offsets[view.buffer])
            return start + view.offset * program.itemsize(view.buffer)

        self.frames = program.input.shape[0]
        self.input = address(program.input)
        self.input_half = program.input.buffer in program.half
        self.outputs = [(address(v), v.shape) for v in program.outputs]
        places = Places(address, weights.places, program.half)
        self._launches: list[Launch] = [
            launch
            for step in program.steps
            for launch in launches_of(step, weights.kernels, places, weights.tiles)
        ]

    def enqueue(self, stream: Any) -> None:
        """Put the whole network on a stream."""
        for launch in self._launches:
            launch(stream)

    def varying(self) -> list[NDArray[np.float32]]:
        """None: every size is known."""
        return []

    def close(self) -> None:
        """Let go of the kernels."""
        self._launches.clear()


class _Store:
    """Arrays that go to the device together, each content once: programs of one network differ
    in their numbers of frames, hardly in their weights."""

    def __init__(self) -> None:
        self.parts: dict[int, NDArray[Any]] = {}  # by offset in bytes
        self.nbytes = 0
        self._known: dict[bytes, int] = {}

    def add(self, part: NDArray[Any]) -> int:
        """The offset at which it will lie."""
        digest = hashlib.sha256(part.tobytes()).digest()  # to the byte: the type does not matter
        if digest not in self._known:
            self._known[digest] = self.nbytes
            self.parts[self.nbytes] = part
            self.nbytes += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
        return self._known[digest]


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
