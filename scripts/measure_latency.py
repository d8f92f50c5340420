#!/usr/bin/env python3
"""Measures how much longer than its bare work a live frame takes, from available to boxes out.

Kestrel: a live run paced by the clip's clock, the age of each result. Bare: read at the same pace
on one thread, then preprocess, network, postprocess, so that caches are as cold. In turns, in one
process; the ratio is that of the medians of the rounds' medians. For a machine that is idle.

    python scripts/measure_latency.py CLIP [--model M] [--engine cpu] [--rounds 5] [--frames 120]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from time import perf_counter_ns

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from app.config import Config
from app.core.errors import KestrelError, SourceEnded
from app.core.interfaces import Sink
from app.inference.onnxruntime import OrtNetwork
from app.inference.postprocess import Limits, Postprocessor
from app.inference.preprocess import CpuPreprocessor
from app.models.manifest import Model
from app.models.store import default_model, find_model
from app.pipeline.handoff import Policy
from app.pipeline.pipeline import Pipeline
from app.runtime.engines import backend_factory
from app.sources.uri import make_source

WARM = 10  # frames that do not count


class Ages(Sink):
    """A sink that keeps them, in ms."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def emit(self, result: object) -> None:
        self.ms.append(getattr(result, "age_ns", 0) / 1e6)


def live(clip: str, model: Model, config: Config, frames: int) -> list[float]:
    """Ages of a live run, ms."""
    ages = Ages()
    pipeline = Pipeline(
        make_source(clip, realtime=True),
        backend_factory(config, model, Policy.LATEST),
        [ages],
        labels=model.spec.labels,
        policy=Policy.LATEST,
        max_frames=frames,
    )
    pipeline.start()
    while not pipeline.wait():
        pass
    pipeline.join()
    return ages.ms[WARM:]


def bare(clip: str, model: Model, threads: int, frames: int) -> list[float]:
    """The bare sum at the same pace, ms."""
    spent: list[float] = []
    source = make_source(clip, realtime=True)
    try:
        wh_px = source.open().wh_px
        assert wh_px, "a clip tells its size"
        spec = model.spec.for_frame(wh_px)
        network = OrtNetwork(model.spec, model.weights, 1, threads).bind(spec, 1)
        preprocess = CpuPreprocessor(spec.input)
        postprocess = Postprocessor(spec, network.shapes, Limits(spec.score, spec.iou))
        while len(spent) < frames:
            frame = source.read(1.0)
            if frame is not None:
                start_ns = perf_counter_ns()
                placement = preprocess(frame, network.tensor)
                postprocess(network.run(1)[0], placement)
                spent.append((perf_counter_ns() - start_ns) / 1e6)
    except SourceEnded:
        pass
    finally:
        source.close()
    return spent[WARM:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--model")
    parser.add_argument("--engine", choices=("cpu", "openvino"), default="cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="of each worker, and of the bare sum"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=120)
    args = parser.parse_args()
    model = find_model(args.model) if args.model else default_model()
    config = Config(engine=args.engine, threads=args.threads)
    ages, sums, tails = [], [], []
    for turn in range(args.rounds):
        got = live(args.clip, model, config, args.frames)
        alone = bare(args.clip, model, args.threads, args.frames)
        if not got or not alone:
            sys.exit(f"the clip is too short: more than {WARM} frames are needed")
        ages.append(median(got))
        sums.append(median(alone))
        tails.append(float(np.percentile(got, 99)) / ages[-1])
        print(f"round {turn + 1}: age p50 {ages[-1]:.2f} ms, bare sum p50 {sums[-1]:.2f} ms")
    print(
        f"age {median(ages):.2f} ms, bare sum {median(sums):.2f} ms: "
        f"{median(ages) / median(sums):.2f} times; p99 is {median(tails):.2f} times p50"
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KestrelError as error:
        sys.exit(str(error))
