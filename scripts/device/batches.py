"""How much does a GPU gain from several frames at once? Frames a second, of 16 sources in turn."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from app.core.frame import Frame
from app.models.manifest import Model
from scripts.device.contestants import Pixels, kestrel

BATCHES = (1, 4, 16)
SOURCES = 16
SIZES_WH = ((640, 360), (1920, 1080))  # the large ones show what copying on the host allows


def measure_batches(
    model: Model, pictures: list[Pixels], size_wh: tuple[int, int], *, rounds: int, frames: int
) -> dict[str, dict[str, Any]]:
    """By batch, with frames of one size: frames a second with all slots busy (the median of the
    rounds), how many times those of batch 1, and each stage's time for a frame in ms."""
    import cv2

    shown = [np.asarray(cv2.resize(p, size_wh), np.uint8) for p in pictures[:SOURCES]]
    found: dict[str, dict[str, Any]] = {}
    for batch in BATCHES:
        with kestrel(model, "cuda", "auto", batch=batch) as backend:
            first, *runs = [_sustained(backend, shown, frames) for _ in range(rounds + 1)]
        fps = median(fps for fps, _ in runs)
        timed = [times for _, some in runs for times in some] or first[1]
        stages = {k: round(median(s[k] for s in timed) / 1e6, 4) for k in timed[0]}
        found[str(batch)] = {"fps": round(fps, 1), "stages_ms": stages}
    for figures in found.values():
        figures["gain"] = round(figures["fps"] / found["1"]["fps"], 2)
    return found


def _sustained(backend: Any, pictures: list[Pixels], count: int) -> tuple[float, list[Any]]:
    """Frames a second, and the stages of those that are timed, of ``count`` frames or the next
    whole batch."""
    slots = list(backend.slots)
    size = slots[0].capacity
    uses = max(len(slots), -(-count // size))
    stages: list[Any] = []
    start_s = perf_counter()
    for turn in range(uses + len(slots)):
        slot = slots[turn % len(slots)]
        if turn >= len(slots) and (times := slot.collect()[0][1]):
            stages.append(times)
        if turn < uses:
            some = [pictures[(turn * size + i) % len(pictures)] for i in range(size)]
            slot.enqueue([Frame(pixels, turn, 0) for pixels in some])
    fps = uses * size / (perf_counter() - start_s)
    return fps, stages
