"""The least CPU work a frame, stage by stage on one thread, and the rate that it allows.

The bound takes for granted that every core does nothing but this work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean, median, median_low
from time import thread_time_ns
from typing import Any

import cv2
import numpy as np

from app.core.frame import Frame
from app.inference.postprocess import Limits, Postprocessor
from app.inference.preprocess import CpuPreprocessor
from app.models.manifest import Model
from app.models.onnx_session import network_io, open_session
from app.ops.machine import device
from scripts.bench_peers.contract import NotHere

STAGES = ("decode", "preprocess", "network", "postprocess")
WARM = 20  # frames that do not count: caches and ONNX Runtime's arena


def bound(clip: str, model: Model, *, most: int = 600) -> dict[str, Any]:
    """Mean CPU ms of each stage over up to ``most`` frames, their sum, cores / sum as FPS."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    spent = [stages for stages, _ in zip(_frames(clip, model), range(most), strict=False)][WARM:]
    cv2.setNumThreads(threads)
    if not spent:
        raise NotHere(f"the clip is too short: more than {WARM} frames are needed")
    means = [mean(column) / 1e6 for column in zip(*spent, strict=True)]
    cores, total_ms = int(device()["cores"]), sum(means)
    return {
        "stages_ms": {name: round(ms, 4) for name, ms in zip(STAGES, means, strict=True)},
        "total_ms": round(total_ms, 4),
        "cores": cores,
        "bound_fps": round(cores * 1000 / total_ms, 2),
    }


def typical(bounds: Sequence[dict[str, Any]], fps: Sequence[float]) -> dict[str, Any]:
    """The median of the rounds' ``bounds``; with the ``fps`` of each round the median share."""
    total_ms = median_low(each["total_ms"] for each in bounds)
    work = next(dict(each) for each in bounds if each["total_ms"] == total_ms)
    if len(fps) == len(bounds):
        shares = [rate / each["bound_fps"] for rate, each in zip(fps, bounds, strict=True)]
        work["shares"] = [round(share, 3) for share in shares]
        work["share_reached"] = round(median(shares), 3)
    return work


def _frames(clip: str, model: Model) -> Iterator[tuple[int, ...]]:
    """CPU ns of each stage, frame by frame, all on the calling thread."""
    spec = model.spec
    capture = cv2.VideoCapture(clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    session = open_session(model.weights, threads=1)
    io = network_io(session, spec)
    tensor = np.zeros(io.shape, np.float32)
    feed = {io.input: tensor}
    preprocess = CpuPreprocessor(spec.input)
    shapes = [output.shape for output in session.run(None, feed)]
    postprocess = Postprocessor(spec, shapes, Limits(spec.score, spec.iou))
    buffer = None
    while True:
        at = [thread_time_ns()]
        ok, buffer = capture.read(buffer)
        if not ok:
            return
        at.append(thread_time_ns())
        placement = preprocess(Frame(np.asarray(buffer, np.uint8), 0, 0), tensor)
        at.append(thread_time_ns())
        outputs = session.run(None, feed)
        at.append(thread_time_ns())
        postprocess(outputs, placement)
        at.append(thread_time_ns())
        yield tuple(b - a for a, b in pairwise(at))
