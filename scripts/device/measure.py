"""One part of the device's check, in a process of its own; figures are told as soon as known.

    python -m scripts.device.measure PART [--model NAME] [--rounds 7] [--frames 60]

Ratios and medians over interleaved rounds; what cannot run here is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from app.config import Engine, Precision
from app.core.errors import KestrelError
from app.core.frame import Frame, bgr_pixels
from app.models.manifest import Model
from app.models.store import default_model, find_model
from app.ops.machine import device
from scripts.device.__main__ import FIGURE
from scripts.device.contestants import (
    Detect,
    NotHere,
    Pixels,
    by_slot,
    kestrel,
    ort_peer,
    torch_peer,
)

Contestant = tuple[str, AbstractContextManager[Any], Callable[[Any], Detect]]
OURS: tuple[tuple[Engine, Precision], ...] = (("cuda", "fp16"), ("cuda", "fp32"), ("cpu", "fp32"))
BESIDE: tuple[tuple[Engine, Precision], ...] = (
    *(("tensorrt", "fp16"), ("ort-cuda", "fp32"), ("ort-tensorrt", "fp16")),
)
WARM = 10  # frames before each timed row: clocks fall while others have their turn
MORE_MODELS = ("kestrel_small", "yolox_nano_416")  # of which layers are timed besides


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.device.measure", description=__doc__)
    add = parser.add_argument
    add("part", choices=PARTS)
    add("--model", help="default: the default model")
    add("--rounds", type=int, default=7)
    add("--frames", type=int, default=60, help="frames of each contestant a round")
    a = parser.parse_args()
    try:
        model = find_model(a.model) if a.model else default_model()
        PARTS[a.part](model, a.rounds, a.frames)
    except KestrelError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


def tell(**figures: Any) -> None:
    """To whoever reads the output, at once."""
    print(FIGURE + json.dumps(figures), flush=True)


def about(model: Model, rounds: int, frames: int) -> None:
    """The machine; all kernels compiled; one frame's boxes here and on the CPU."""
    import pycuda

    from app.cuda.context import GpuContext
    from scripts.compile_kernels import compile_kernels

    with GpuContext() as context:
        capability = context.capability
    tell(machine=device(), gpu=about_gpu(), pycuda=pycuda.VERSION_TEXT, model=model.spec.name)
    start = perf_counter()
    compile_kernels([capability])
    tell(compiled_s=round(perf_counter() - start, 1))
    race([ours(model, *OURS[0]), ours(model, *OURS[2])], moving_pictures(2), 1, 1)


def engines(model: Model, rounds: int, frames: int) -> None:
    """Our own engines: one frame at a time, all slots busy, batches; the preprocessing kernel."""
    from scripts.device.batches import SIZES_WH, measure_batches
    from scripts.device.kernels import measure_preprocess

    pictures = moving_pictures(16)
    race([ours(model, *how) for how in OURS], pictures, rounds, frames)
    for how in OURS:
        with_slots(model, *how, pictures=pictures, count=frames * rounds)
    attempt("preprocess", lambda: tell(preprocess=measure_preprocess()))

    def batches(wh: tuple[int, int]) -> None:
        name = "{}x{}".format(*wh)
        tell(batches={name: measure_batches(model, pictures, wh, rounds=rounds, frames=8 * frames)})

    for wh in SIZES_WH:
        attempt("batches of {}x{}".format(*wh), partial(batches, wh))


def layers(model: Model, rounds: int, frames: int) -> None:
    """Each launch of our own network by itself, of the model and of others that are here."""
    from scripts.device.layers import measure_layers

    def of(name: str) -> None:
        tell(layers={name: measure_layers(model if name == model.spec.name else find_model(name))})

    for name in dict.fromkeys((model.spec.name, *MORE_MODELS)):
        attempt(f"layers of {name}", partial(of, name))


def frame(model: Model, rounds: int, frames: int) -> None:
    """One frame between the driver's marks for profilers, after some that are not looked at."""
    import pycuda.driver as driver

    pictures = moving_pictures(4)
    with kestrel(model, *OURS[0]) as backend:
        detect = by_slot(backend)
        for picture in pictures:
            detect(picture)
        driver.start_profiler()
        detect(pictures[0])
        driver.stop_profiler()


def peers_torch(model: Model, rounds: int, frames: int, *, compiled: bool) -> None:
    """PyTorch beside our own engine."""
    pictures = moving_pictures(16)
    name = "PyTorch max-autotune fp16" if compiled else "PyTorch eager fp16"
    peer = torch_peer(cut(model, pictures), compiled=compiled)
    race([ours(model, *OURS[0]), (name, peer, as_it_is)], pictures, rounds, frames)


def peers_ort(model: Model, rounds: int, frames: int) -> None:
    """ONNX Runtime beside our own engine: through Kestrel, and in a plain loop."""
    pictures = moving_pictures(16)
    racing = [ours(model, *how) for how in (OURS[0], *BESIDE)]
    for provider in ("CUDA", "CPU"):
        peer = ort_peer(cut(model, pictures), f"{provider}ExecutionProvider")
        racing.append((f"ONNX Runtime {provider}, plain loop", peer, as_it_is))
    race(racing, pictures, rounds, frames)
    for how in BESIDE:
        with_slots(model, *how, pictures=pictures, count=frames * rounds)


PARTS: dict[str, Callable[[Model, int, int], None]] = {
    "about": about,
    "engines": engines,
    "layers": layers,
    "frame": frame,
    "eager": lambda *args: peers_torch(*args, compiled=False),
    "compiled": lambda *args: peers_torch(*args, compiled=True),
    "ort": peers_ort,
}


def ours(model: Model, engine: Engine, precision: Precision) -> Contestant:
    """One of Kestrel's engines."""
    return f"kestrel {engine} {precision}", kestrel(model, engine, precision), by_slot


def as_it_is(detect: Detect) -> Detect:
    """For peers, which are called with a frame."""
    return detect


def cut(model: Model, pictures: list[Pixels]) -> Model:
    """Ours computes only what these frames need of the input; so shall peers."""
    height, width = pictures[0].shape[:2]
    return replace(model, spec=model.spec.for_frame((width, height)))


def attempt(name: str, part: Callable[[], None]) -> None:
    """What fails must not cost the others their figures."""
    try:
        part()
    except Exception as fault:
        reason = str(fault) if isinstance(fault, NotHere) else f"{type(fault).__name__}: {fault}"
        tell(not_here={name: reason})


def race(
    contestants: Sequence[Contestant], pictures: list[Pixels], rounds: int, frames: int
) -> None:
    """Boxes of the first frame; median and p99 of one frame's time, rounds interleaved."""
    with ExitStack() as stack:
        racing: dict[str, Detect] = {}

        def enter(name: str, manager: Any, use: Callable[[Any], Detect]) -> None:
            detect = use(stack.enter_context(manager))
            # at once: what it allocates belongs to the context that it has just opened
            tell(boxes={name: detect(pictures[0])})
            racing[name] = detect

        for contestant in contestants:
            attempt(contestant[0], partial(enter, *contestant))
        times: dict[str, list[list[float]]] = {name: [] for name in racing}
        for _ in range(rounds):
            for name, detect in racing.items():
                for picture in pictures[:WARM]:
                    detect(picture)
                mine = []
                for i in range(frames):
                    start = perf_counter()
                    detect(pictures[i % len(pictures)])
                    mine.append((perf_counter() - start) * 1e3)
                times[name].append(mine)
            for name, runs in times.items():
                p99 = float(np.percentile(np.concatenate(runs), 99))
                p50 = median(median(r) for r in runs)
                tell(latency_ms={name: {"p50": round(p50, 4), "p99": round(p99, 4)}})


def with_slots(
    model: Model, engine: Engine, precision: Precision, *, pictures: list[Pixels], count: int
) -> None:
    """All slots busy."""
    name = f"kestrel {engine} {precision}"

    def measure() -> None:
        with kestrel(model, engine, precision) as backend:
            figures, stages = sustained(backend, pictures, count)
            tell(throughput={name: figures}, stages_ms={name: stages})
            tell(remarks={name: list(backend.remarks)})

    attempt(f"{name}, sustained", measure)


def sustained(
    backend: Any, pictures: list[Pixels], count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Frames per second with all slots busy, and medians of the stages of one slot alone.

    ``of_slowest_part``: of what the slowest of copy in, computing and copy out would allow; for
    engines whose slots share one device.
    """
    slots: list[Any] = list(backend.slots)
    stages: list[Any] = []
    for slot in slots:  # the first frame prepares
        slot.enqueue([Frame(pictures[0], 0, 0)])
        slot.collect()
    turn = 0
    while turn < 4 * len(pictures) or not stages:
        slots[0].enqueue([Frame(pictures[turn % len(pictures)], 0, 0)])
        if times := slots[0].collect()[0][1]:  # some of the frames are timed
            stages.append(times)
        turn += 1
    start = perf_counter()
    for i in range(count + len(slots)):
        slot = slots[i % len(slots)]
        if i >= len(slots):
            slot.collect()
        if i < count:
            slot.enqueue([Frame(pictures[i % len(pictures)], i, 0)])
    fps = count / (perf_counter() - start)
    medians = {name: median(s[name] for s in stages) / 1e6 for name in stages[0]}
    figures = {"fps": round(fps, 1)}
    if "upload" in medians:
        up, down = medians["upload"], medians["download"]
        slowest = max(up, sum(medians.values()) - up - down, down)
        figures["of_slowest_part"] = round(fps * slowest / 1e3, 3)
    return figures, {name: round(ms, 4) for name, ms in medians.items()}


def moving_pictures(count: int) -> list[Pixels]:
    """Frames of 1920×1080 with something in them: the sample clip, enlarged."""
    import cv2

    from app.sources.uri import make_source

    source = make_source("sample:", realtime=False)
    source.open()
    pictures: list[Pixels] = []
    while len(pictures) < count:
        frame = source.read(5)
        assert frame is not None
        pictures.append(np.asarray(cv2.resize(bgr_pixels(frame), (1920, 1080)), np.uint8))
    source.close()
    return pictures


def about_gpu() -> dict[str, str]:
    """Name, driver, clocks, power limit: what the figures depend on."""
    from app.cuda.context import GpuContext

    with GpuContext() as context:
        about = {"name": context.name, "capability": "{}.{}".format(*context.capability)}
    query = "driver_version,clocks.max.sm,clocks.max.memory,power.limit,memory.total"
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip
        values = [value.strip() for value in told.splitlines()[0].split(",")]
        about |= dict(zip(query.split(","), values, strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        about["nvidia-smi"] = "does not answer"
    return about


if __name__ == "__main__":
    sys.exit(main())
