"""Paper model: milliseconds a frame of the native engine on GPUs that nobody has measured.

    python -m scripts.gpu_model [MODEL …]

From the lowered plan: of each launch its bytes, operations and blocks, in half precision (8 bits
where the model is quantised), for one frame. The bound is an engine like TensorRT: what is element
by element is folded into convolutions, all multiprocessors share each convolution evenly, and loads
never keep it waiting. Where blocks share sums (parts of K), what they write and the last of them
reads goes through the level-2 cache.

What it leaves out: caches between launches, copies over the bus, preprocessing and boxes. It is for
comparing two plans before a GPU is at hand, and no measurement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

from app.core.errors import KestrelError
from app.cuda.native.autotune import ConvTile, K, sensible, size_of
from app.cuda.native.ir import Binary, Conv, Step, Unary, read_static_graph, reads, writes
from app.cuda.native.lower import Program, halved, lower
from app.cuda.native.schedule import split, waves
from app.models.store import default_model, find_model

from .kernel_table import LIMITS, Kernel, read_table


@dataclass(frozen=True, slots=True)
class Device:
    """Figures of a data sheet; ``tensor_tflops``: half precision summed in float32, dense;
    ``int8_tops``: bytes summed in int."""

    name: str
    arch: str
    multiprocessors: int
    clock_mhz: int
    tensor_tflops: float
    memory_gb_s: float
    launch_us: float  # from one kernel of a graph to the next, which waits for it; assumed
    source: str
    int8_tops: float = 0.0


DEVICES = (
    Device(
        *("Orin Nano Super", "sm_87", 8, 1020, 16.7, 102, 2.5),
        source="NVIDIA Jetson Orin Nano Super Developer Kit data sheet (33 INT8 TOPS dense)",
        int8_tops=33,
    ),
    Device(
        *("AGX Orin 64 GB", "sm_87", 16, 1300, 42.6, 204.8, 2.5),
        source="NVIDIA Jetson AGX Orin Series technical brief v1.2 (85 INT8 TOPS dense)",
        int8_tops=85,
    ),
    Device(
        *("RTX 4070", "sm_89", 46, 2475, 58.3, 504.2, 1.3),
        source="NVIDIA Ada GPU architecture whitepaper: 512 operations a clock and multiprocessor"
        ", 2048 with INT8",
        int8_tops=233.2,
    ),
    Device(
        *("H200", "sm_90", 132, 1830, 989.4, 4800, 1.3),
        source="NVIDIA H200 data sheet (1,979 TFLOPS with sparsity, twice that with INT8)",
        int8_tops=1979,
    ),
)
# Assumed: shares of a data sheet's figure that a good kernel reaches, and how long a load takes.
MEMORY_SHARE, TENSOR_SHARE, LOAD_CYCLES = 0.8, 0.6, 500
K_INT8 = 64  # values of each sum that a block loads at a time, where K is for the others
STAGES = 3  # of loads under way at once (kernels/conv.cu)
# that a block writes or reads in a cycle; assumed: an A100's whitepaper tells 5,120 for all of it
L2_BYTES = 32


@dataclass(frozen=True, slots=True)
class Work:
    """One step. Of convolutions on tensor cores ``output``: channels of a group, pixels, groups
    of all frames for each of ``parts`` of the sums; ``depth``: products of each sum. ``folded``:
    the bound has no launch for it."""

    nbytes: int
    operations: int = 0
    output: tuple[int, int, int] = (0, 0, 0)
    depth: int = 0
    parts: int = 1
    folded: bool = False
    kernel: str = ""  # of a convolution: dense, fused
    eight: bool = False  # the kernel for channels in eights


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one network on one device."""

    launches: int
    megabytes: float
    gflop: float
    ms: float
    bound_ms: float

    @property
    def ratio(self) -> float:
        return self.ms / self.bound_ms


def work_of(step: Step, program: Program) -> Work:
    """What one step moves and computes."""
    views = (*reads(step), *writes(step))
    nbytes = sum(view.size * program.itemsize(view.buffer) for view in views)
    if not isinstance(step, Conv):
        return Work(nbytes, folded=isinstance(step, Unary | Binary))
    layers = [(step.weight, step.bias)]
    if step.before is not None:
        layers.append((step.before.weight, step.before.bias))
    for weight, bias in layers:
        nbytes += weight.size * program.itemsize(step.x.buffer) + 4 * bias.size
    nbytes += 12 * len(step.weight) * step.int8  # scales and starts of sums, filled up
    (frames, _, *hw), (out, *window) = step.y.shape, step.weight.shape
    operations = 2 * step.weight.size * prod(hw) * frames
    if window[0] == 1 and step.groups == out:  # depthwise: no tensor cores, its bytes count
        return Work(nbytes)
    shared = size_of(step), prod(window), step.parts
    return Work(nbytes, operations, *shared, kernel=step.kernel, eight=step.eight)


def predict(launches: Sequence[Sequence[Work]], device: Device) -> Prediction:
    """Launch after launch, of one step or of several: each takes its bytes or its blocks, whichever
    is longer. The bound takes step after step."""
    works, gap_s = [work for launch in launches for work in launch], device.launch_us * 1e-6
    own = sum(
        gap_s + max(sum(_bytes_s(work, device) for work in launch), _blocks_s(launch, device))
        for launch in launches
    )
    bound = sum(
        gap_s + max(_bytes_s(w, device), w.operations / _peak(w, device))
        for w in works
        if not w.folded
    )
    return Prediction(
        len(launches),
        sum(w.nbytes for w in works) / 1e6,
        sum(w.operations for w in works) / 1e9,
        own * 1e3,
        bound * 1e3,
    )


def _peak(work: Work, device: Device) -> float:
    """Operations a second that a good kernel reaches."""
    most = device.int8_tops if work.kernel.endswith("int8") else device.tensor_tflops
    return most * 1e12 * TENSOR_SHARE


def _bytes_s(work: Work, device: Device) -> float:
    return work.nbytes / (device.memory_gb_s * 1e9 * MEMORY_SHARE)


def _blocks_s(launch: Sequence[Work], device: Device) -> float:
    """With the tile that takes least time, as measured tiles do."""
    if not any(work.depth for work in launch):
        return 0.0
    tiles = sensible([work.output for work in launch])
    return min(_with_tile_s(launch, device, tile) for tile in tiles)


def _with_tile_s(launch: Sequence[Work], device: Device, tile: ConvTile) -> float:
    """Waves of blocks, in steps of K: each takes its products, its instructions (four warps at
    a time, one a clock) or its loads, whichever is longest. Then parts are written, counted and
    read, each as long as a load, and as their bytes take."""
    k = K_INT8 if launch[0].kernel.endswith("int8") else K
    steps = [ceil(ceil(work.depth / k) / work.parts) for work in launch]
    blocks = [tile.blocks(work.output) for work in launch]
    kernel = compiled(device.arch, tile, launch[0].kernel, launch[0].eight)
    warps = kernel.threads // 32
    room = int(kernel.occupancy / 100 * LIMITS[device.arch].warps) // warps
    together = min(max(1, room), ceil(sum(blocks) / device.multiprocessors))
    waves = ceil(sum(blocks) / (device.multiprocessors * together))
    mean = sum(n * each for n, each in zip(blocks, steps, strict=True)) / sum(blocks)
    peak = _peak(launch[0], device) / device.multiprocessors
    products_s = together * 2 * tile.channels * tile.pixels * k / peak
    cycles = max(LOAD_CYCLES / STAGES, together * kernel.step * warps / 4)
    one_s = max(products_s, cycles / (device.clock_mhz * 1e6))
    most, adding = max(work.parts for work in launch), 0.0
    if most > 1:
        adding = 3 * LOAD_CYCLES + (together + most) * tile.channels * tile.pixels * 4 / L2_BYTES
    return max(waves * mean, max(steps)) * one_s + adding / (device.clock_mhz * 1e6)


@lru_cache
def compiled(arch: str, tile: ConvTile, kernel: str, eight: bool) -> Kernel:
    """The kernel of that kind and tile by the table, in half precision."""
    file, variant = "conv", "HALF_IN+HALF_OUT" + "+EIGHT" * eight
    if kernel.endswith("int8"):
        file, variant = "conv_int8", "WIDE" * eight
    name = f"{kernel.removesuffix('_int8')}_{tile.channels}x{tile.pixels}"
    return next(
        k
        for k in read_table()[2]
        if (k.file, k.arch, k.variant, k.kernel) == (file, arch, variant, name)
    )


def launches_of(program: Program) -> list[list[Work]]:
    """Of one frame, in order."""
    return [[work_of(step, program) for step in wave] for wave in waves(program)]


def main() -> int:
    """Print a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("model", nargs="*", help="names or files, as models list has them")
    args = parser.parse_args()
    print("Predicted, not measured: half precision or 8 bits, one frame, the network alone.\n")
    head = "network | GPU | launches | MB | GFLOP | ms | sums not shared, ms | bound ms | times"
    print(f"| {head} |\n|" + " --- |" * 9)
    try:
        for model in [find_model(name) for name in args.model] or [default_model()]:
            size_wh = model.spec.input.size_wh
            program = halved(lower(read_static_graph(model.weights, size_wh)))
            for device in DEVICES:
                whole = predict(launches_of(program), device)
                (shared,) = split([program], device.multiprocessors)
                p = predict(launches_of(shared), device)
                numbers = f"{p.launches} | {p.megabytes:.1f} | {p.gflop:.2f}"
                times = f"{p.ms:.3f} | {whole.ms:.3f} | {p.bound_ms:.2f} | {p.ratio:.1f}"
                what = f"{model.spec.name} {size_wh[0]}×{size_wh[1]}"
                print(f"| {what} | {device.name} | {numbers} | {times} |")
    except KestrelError as error:
        print(f"gpu_model: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
