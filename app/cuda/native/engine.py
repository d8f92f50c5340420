"""The native engine: a network's program on the GPU, with its buffers in one block of memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelError
from ...models.manifest import ModelSpec
from ...models.onnx_session import network_io, open_session
from ..context import GpuContext
from .autotune import ConvAutotuner, multiprocessors
from .ir import Conv, Depthwise, Step, View, read_static_graph
from .launch import BufferAddresses, Launch, Stored, launch_of, row_step
from .launch_int8 import launch_of_bytes, of_bytes, parts_of
from .lower import Program, halved, lower
from .schedule import ALIGNMENT, Arena, plan, split

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
        programs = [halved(program) if half else program for program in programs]
        self.programs = split(programs, multiprocessors(context))
        self.arenas: list[Arena] = [plan(program) for program in self.programs]
        self.context = context
        self.autotuner = ConvAutotuner(context, tune=tune)
        store = _Store()
        convolutions: dict[int, list[int]] = {}
        constants: list[dict[int, int]] = []
        for program in self.programs:
            for step in program.steps:
                if of_bytes([step]):
                    convolutions[id(step)] = [store.add(part) for part in parts_of(step)]
                elif isinstance(step, Conv):
                    parts, half_in = [(_rows(step), step.bias)], step.x.buffer in program.half
                    if step.before is not None:
                        taps = _taps(step.before)
                        if half_in and step.eight:  # 8 channels of all taps, then the next 8
                            taps = taps.reshape(-1, taps.shape[-1] // 8, 8).swapaxes(0, 1)
                        parts.append((taps, step.before.bias))
                    convolutions[id(step)] = [
                        store.add(_stored(values, half))
                        for pair in parts
                        for values, half in zip(pair, (half_in, False), strict=True)
                    ]
            constants.append(
                {b: store.add(_stored(v, b in program.half)) for b, v in program.constants.items()}
            )
        self._memory = context.driver.mem_alloc(max(store.nbytes, ALIGNMENT))
        base = int(self._memory)
        for offset, part in store.parts.items():
            context.driver.memcpy_htod(base + offset, part)
        self.convolutions = {
            key: Stored(*(base + at for at in offsets)) for key, offsets in convolutions.items()
        }
        self.constants = [{b: base + at for b, at in some.items()} for some in constants]

    def close(self) -> None:
        """Free the weights."""
        self._memory.free()


class NativeNetwork:
    """One slot's memory, in which its runs take turns: each for a number of frames."""

    def __init__(self, context: GpuContext, weights: Weights) -> None:
        size = max(arena.size for arena in weights.arenas)
        lasting = np.cumsum([size, *(arena.lasting_size for arena in weights.arenas)])
        self._memory = context.driver.mem_alloc(max(int(lasting[-1]), ALIGNMENT))
        try:
            base = int(self._memory)
            self._runs = [
                Run(weights, base, base + int(lasting[i]), i) for i in range(len(weights.programs))
            ]
        except BaseException:  # nobody else knows of it yet
            self._memory.free()
            raise
        weights.autotuner.keep()
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

    def __init__(self, weights: Weights, memory: int, lasting: int, index: int) -> None:
        program, arena = weights.programs[index], weights.arenas[index]
        constants = weights.constants[index]

        def address(view: View) -> int:
            base = lasting if view.buffer in arena.lasting else memory
            start = constants.get(view.buffer, base + arena.offsets[view.buffer])
            return start + view.offset * program.itemsize(view.buffer)

        self.frames = program.input.shape[0]
        self.input = address(program.input)
        self.input_half = program.input.buffer in program.half
        self.outputs = [(address(v), v.shape) for v in program.outputs]
        counters = lasting + arena.counters
        if count := (arena.lasting_size - arena.counters) // 4:
            weights.context.driver.memset_d32(counters, 0, count)
        addresses = BufferAddresses(address, weights.convolutions, program.half)
        how = weights.context, addresses, weights.autotuner

        def launched(wave: Sequence[Step], sums: int) -> Launch:
            if of_bytes(wave):
                return launch_of_bytes(wave, *how)
            return launch_of(wave, *how, (memory + sums, counters))

        for step in program.once:
            launched([step], 0)(None)
        self._launches = list(map(launched, arena.waves, arena.sums))

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
    """The weights, a row (kh, kw, in) for each output channel, filled up with zeros."""
    if step.kernel == "depthwise":
        return _taps(step)
    flat = step.weight.transpose(0, 2, 3, 1).reshape(len(step.weight), -1)
    return np.pad(flat, ((0, 0), (0, row_step(step) - flat.shape[1])))


def _taps(step: Conv | Depthwise) -> NDArray[np.float32]:
    """The weights of a depthwise convolution, (kh, kw, channels)."""
    taps: NDArray[np.float32] = step.weight[:, 0].transpose(1, 2, 0)
    return taps


class NetworkRun(Protocol):
    """The network over ``frames`` frames: addresses of its tensors, and its work on a stream."""

    frames: int
    input: int

    @property
    def outputs(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        """Address and shape of each; address 0 where the size varies from frame to frame."""

    def enqueue(self, stream: Any) -> None:
        """Put the network on the stream."""

    def varying(self) -> Sequence[NDArray[Any]]:
        """All outputs on the host, where ``outputs`` has no addresses."""


class SlotNetwork(Protocol):
    """One slot's network. Outputs are float32; so is the input, unless ``input_half``."""

    input_half: bool

    def run_for(self, frames: int) -> NetworkRun:
        """The run with room for so many frames that costs least; its tensors may lie where
        those of another run lie."""

    def close(self) -> None:
        """Free everything; nothing may be pending."""


class GpuEngine(Protocol):
    """What the slots' networks share. ``captured``: their work may become a CUDA graph.

    ``batch``: the most frames that go through a network at once.
    """

    batch: int
    captured: bool
    description: str

    def network(self, stream: Any) -> SlotNetwork:
        """The network of the slot with this stream."""

    def at(self, spec: ModelSpec) -> GpuEngine:
        """The same weights for the input of ``spec``, where the network takes any size."""

    def close(self) -> None:
        """Free everything; after the networks."""


class NativeEngine:
    """Our own kernels, for 1 to ``batch`` frames at once.

    ``half``: convolve with the tensor cores, in half precision. ``tune``: measure which tile suits
    each convolution, once per device.
    """

    captured = True

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        weights: Path,
        *,
        half: bool = True,
        tune: bool = True,
        batch: int = 1,
        content: bytes | None = None,
    ) -> None:
        """``content``: that of the file ``weights``, where it has been read already."""
        if spec.input.fit and content is None:
            network_io(open_session(weights, optimise=False), spec)  # refuses files of one size
            content = weights.read_bytes()
        programs = [
            lower(read_static_graph(weights, spec.input.size_wh, frames=n, content=content))
            for n in runs_for(batch)
        ]
        together = f", {batch} frames at once" if batch > 1 else ""
        types = "half precision" if half else "float32"
        if programs[0].int8:
            types = f"8 bits, {types}"
        self.description = f"cuda (native, {types}{together})"
        self.batch = batch
        self._context, self._file, self._content = context, weights, content
        self._how: dict[str, Any] = {"half": half, "tune": tune, "batch": batch}
        self._weights = Weights(context, programs, half=half, tune=tune)

    def network(self, stream: Any) -> NativeNetwork:
        """See GpuEngine."""
        return NativeNetwork(self._context, self._weights)

    def at(self, spec: ModelSpec) -> NativeEngine:
        """See GpuEngine. From what was read at the start: the file may have been replaced since."""
        return NativeEngine(self._context, spec, self._file, content=self._content, **self._how)

    def close(self) -> None:
        """See GpuEngine."""
        self._weights.close()


def runs_for(batch: int) -> list[int]:
    """For how many frames there is a run: 1, 2, 4 … and ``batch``.

    Fewer frames than a run has room for leave its last places as they were: computed, and looked
    at by nobody, at the price of less than as many frames again.
    """
    return [*(n for n in (1 << i for i in range(batch.bit_length())) if n < batch), batch]
