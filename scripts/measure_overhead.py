#!/usr/bin/env python3
"""Measures how much CPU time per frame Kestrel adds to the work itself.

The work are the stages that any loop has: decoding, preprocessing, network, postprocessing, each
measured on the thread that does it. Added is what the whole process spends besides between the
first and the last frame: handing over, order, figures, JSON lines. Printed, too: all that is in
no library: what was added, and the NumPy and Python of the stages.

    python scripts/measure_overhead.py CLIP [--model fastestdet_352] [--runs 5]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time_ns, thread_time_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2

from app.config import Config
from app.core.errors import KestrelError
from app.core.interfaces import Sink
from app.inference import onnxruntime as cpu_network
from app.inference.postprocess import Postprocessor
from app.inference.preprocess import CpuPreprocessor
from app.models import onnx_session
from app.models.manifest import Model
from app.models.store import find_model
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime.engines import backend_factory
from app.sinks.json_lines import JsonLinesSink
from app.sources.uri import make_source

STAGES = ("decode", "preprocess", "network", "postprocess")
LIBRARIES = ("decode", "cv2", "network")

spent_ns: dict[str, int] = {}


def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """``call``, its CPU time on the calling thread added up under ``name``."""

    def measured(*args: Any, **options: Any) -> Any:
        start_ns = thread_time_ns()
        try:
            return call(*args, **options)
        finally:
            spent_ns[name] = spent_ns.get(name, 0) + thread_time_ns() - start_ns

    return measured


class Proxy:
    """An object of a library, some of its methods timed."""

    def __init__(self, inner: Any, name: str, methods: tuple[str, ...]) -> None:
        self._inner = inner
        for method in methods:
            setattr(self, method, timed(name, getattr(inner, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Window(Sink):
    """A sink: CPU time of process and libraries from the first result to the last."""

    def __init__(self) -> None:
        self.count, self._start, self._end = 0, {"process": 0}, {"process": 0}

    def emit(self, result: object) -> None:
        now = {"process": process_time_ns(), **spent_ns}
        self._start = self._start if self.count else now
        self._end = now
        self.count += 1

    def per_frame_ms(self) -> dict[str, float]:
        """CPU ms a frame by who spent it."""
        return {
            name: (self._end[name] - self._start.get(name, 0)) / (self.count - 1) / 1e6
            for name in self._end
        }


def run(clip: str, model: Model) -> dict[str, float]:
    """One replay that writes JSON lines."""
    spent_ns.clear()
    window = Window()
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as out:
        pipeline = Pipeline(
            make_source(clip, realtime=False),
            backend_factory(Config(), model, Policy.LOSSLESS),
            [JsonLinesSink(out.name), window],
            labels=model.spec.labels,
            policy=Policy.LOSSLESS,
        )
        pipeline.start()
        while not pipeline.wait():
            pass
        pipeline.join()
    spent = window.per_frame_ms()
    spent["added"] = spent["process"] - sum(spent[stage] for stage in STAGES)
    spent["no library"] = spent["process"] - sum(spent[name] for name in LIBRARIES)
    return spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--model", default="fastestdet_352")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    plain_capture, plain_open = cv2.VideoCapture, onnx_session.open_session

    def capture(*arguments: Any) -> Any:
        return Proxy(plain_capture(*arguments), "decode", ("read", "grab", "retrieve", "get"))

    def session(*arguments: Any, **options: Any) -> Any:
        return Proxy(plain_open(*arguments, **options), "network", ("run_with_iobinding",))

    cv2.VideoCapture = capture  # type: ignore[misc,assignment]
    setattr(cpu_network, "open_session", session)  # noqa: B010 - the name that the engine uses
    for home, names in ((cv2, ("resize", "split", "LUT")), (cv2.dnn, ("NMSBoxes",))):
        for name in names:
            setattr(home, name, timed("cv2", getattr(home, name)))
    setattr(CpuPreprocessor, "__call__", timed("preprocess", CpuPreprocessor.__call__))  # noqa: B010
    boxes = timed("postprocess", Postprocessor.on_ready_thread)
    setattr(Postprocessor, "on_ready_thread", boxes)  # noqa: B010
    runs = [run(args.clip, find_model(args.model)) for _ in range(args.runs)]
    for name in (*STAGES, "added", "process", "no library"):
        values = [r[name] for r in runs]
        print(f"{name:12} {statistics.median(values):6.3f} ms CPU a frame (median of {len(runs)})")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KestrelError as error:
        sys.exit(str(error))
