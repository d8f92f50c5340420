"""Measure this machine's GPU: kernels, engines and peers, side by side in one run.

    python -m scripts.device [--model NAME] [--results FOLDER] [--rounds 7]

Ratios and medians over interleaved rounds; what cannot run here is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
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
from scripts.device.batches import measure_batches
from scripts.device.contestants import (
    Detect,
    NotHere,
    Pixels,
    by_slot,
    kestrel,
    ort_peer,
    torch_peer,
)
from scripts.device.kernels import measure_preprocess
from scripts.device.table import table

ENGINES: tuple[tuple[Engine, Precision], ...] = (
    ("cuda", "fp16"),
    ("cuda", "fp32"),
    ("ort-cuda", "fp32"),
    ("ort-tensorrt", "fp16"),
    ("cpu", "fp32"),
)
WARM = 10  # frames before each timed row: clocks fall while others have their turn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.device", description=__doc__)
    add = parser.add_argument
    add("--model", help="default: the default model")
    add("--results", type=Path, default=Path("scripts/results"))
    add("--rounds", type=int, default=7)
    add("--frames", type=int, default=60, help="frames of each contestant a round")
    add("--tests", default="", help="how the GPU tests ended, for the report")
    add("--no-peers", action="store_true")
    a = parser.parse_args()
    try:
        model = find_model(a.model) if a.model else default_model()
        report = measure(model, rounds=a.rounds, frames=a.frames, peers=not a.no_peers)
    except KestrelError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    report["tests"] = a.tests
    report["command"] = "scripts/device_check.sh"
    stem = f"device_{report['gpu']['name'].replace(' ', '_')}_{report['date']}"
    a.results.mkdir(parents=True, exist_ok=True)
    (a.results / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    text = table(report)
    (a.results / f"{stem}.md").write_text(text)
    print(text)
    return 0


def measure(model: Model, *, rounds: int, frames: int, peers: bool) -> dict[str, Any]:
    """All figures."""
    pictures = moving_pictures(16)
    report: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": device(),
        "gpu": about_gpu(),
        "model": model.spec.name,
        "preprocess": measure_preprocess(),
        "latency_ms": {},
        "boxes": {},
        "throughput": {},
        "batches": {},
        "stages_ms": {},
        "remarks": {},
        "not_here": {},
    }
    with ExitStack() as stack:
        racing: dict[str, Detect] = {}

        def enter(name: str, manager: AbstractContextManager[Any], use: Callable[..., Any]) -> None:
            try:
                detect = use(stack.enter_context(manager))
                # at once: what it allocates belongs to the context that it has just opened
                report["boxes"][name] = detect(pictures[0])
                racing[name] = detect
            except NotHere as reason:
                report["not_here"][name] = str(reason)
            except Exception as fault:  # one contestant must not cost the others their figures
                report["not_here"][name] = f"{type(fault).__name__}: {fault}"

        for engine, precision in ENGINES:
            name = f"kestrel {engine} {precision}"
            enter(name, kestrel(model, engine, precision), by_slot)
        if peers:
            height, width = pictures[0].shape[:2]
            # ours computes only what these frames need of the input; so shall theirs
            model_cut = replace(model, spec=model.spec.for_frame((width, height)))
            as_it_is: Callable[[Detect], Detect] = lambda detect: detect  # noqa: E731
            enter("PyTorch eager fp16", torch_peer(model_cut, compiled=False), as_it_is)
            enter("PyTorch max-autotune fp16", torch_peer(model_cut, compiled=True), as_it_is)
            for provider in ("CUDA", "CPU"):
                manager = ort_peer(model_cut, f"{provider}ExecutionProvider")
                enter(f"ONNX Runtime {provider}, plain loop", manager, as_it_is)
        report["latency_ms"] = race(racing, pictures, rounds, frames)
    for engine, precision in ENGINES:
        name = f"kestrel {engine} {precision}"
        if name not in report["latency_ms"]:
            continue
        try:
            with kestrel(model, engine, precision) as backend:
                figures, stages = sustained(backend, pictures, frames * rounds)
                report["throughput"][name], report["stages_ms"][name] = figures, stages
                report["remarks"][name] = list(backend.remarks)
        except Exception as fault:
            report["not_here"][f"{name}, sustained"] = f"{type(fault).__name__}: {fault}"
    try:
        report["batches"] = measure_batches(model, pictures, rounds=rounds, frames=8 * frames)
    except Exception as fault:  # a network for one frame at a time
        report["not_here"]["batches"] = f"{type(fault).__name__}: {fault}"
    return report


def race(
    racing: dict[str, Detect], pictures: list[Pixels], rounds: int, frames: int
) -> dict[str, dict[str, float]]:
    """Median and p99 of one frame's time, rounds interleaved."""
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
    return {
        name: {
            "p50": round(median(median(r) for r in runs), 4),
            "p99": round(float(np.percentile(np.concatenate(runs), 99)), 4),
        }
        for name, runs in times.items()
    }


def sustained(
    backend: Any, pictures: list[Pixels], count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Frames per second with all slots busy, and medians of the stages of one slot alone.

    ``of_slowest_part``: of what the slowest of copy in, computing and copy out would allow; for
    engines whose slots share one device.
    """
    slots, stages = list(backend.slots), []
    for slot in slots:  # the first frame prepares
        slot.enqueue([Frame(pictures[0], 0, 0)])
        slot.collect()
    for picture in pictures * 4:
        slots[0].enqueue([Frame(picture, 0, 0)])
        stages.append(slots[0].collect()[0][1])
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
