"""One measured run of the pipeline, and the same frames one by one with nothing beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from time import perf_counter_ns
from typing import Any

from app.backends.cpu import cores
from app.config import Config
from app.errors import SourceEnded
from app.handoff import Policy
from app.interfaces import Sink
from app.pipeline import Pipeline
from app.power import EnergySink
from app.power.sink import Energy
from app.shelf import Model
from app.sources.uri import make_source
from app.stats import PipelineStats
from app.tools.bench.load import Load, LoadSink
from app.tools.conduct import conduct
from app.tools.engines import backend_factory

STAGES = ("read", "upload", "preprocess", "network", "postprocess", "download", "sinks")
QUANTILES = ("p50", "p95", "p99")
ALONE_FRAMES = 100
WARM_UP = 5
READ_S = 10.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run gave."""

    stats: PipelineStats
    engine: str
    remarks: Sequence[str]
    load: Load
    energy: Energy

    def figures(self) -> dict[str, Any]:
        """For JSON. A stage that the engine does not have is null, never 0."""
        figures = asdict(self.stats)
        del figures["state"], figures["fps"], figures["capture_fps"]
        figures["overall_fps"] = round(self.stats.overall_fps, 2)
        figures["age_ms"] = _rounded(self.stats.age_ms)
        stages = self.stats.stages_ms
        figures["stages_ms"] = {s: _rounded(stages[s]) if s in stages else None for s in STAGES}
        return figures | {"load": self.load.figures()}


def measure(
    config: Config, model: Model, source: str, policy: Policy, sinks: Sequence[Sink] = ()
) -> Measured:
    """Run to the end. Raises what ended it early; KeyboardInterrupt after a signal."""
    load, energy = LoadSink(), EnergySink()
    pipeline = Pipeline(
        make_source(source, realtime=policy is Policy.LATEST),
        backend_factory(config, model, policy),
        [load, energy, *sinks],
        labels=model.spec.labels,
        policy=policy,
        max_frames=config.max_frames,
    )
    ending = conduct(pipeline)
    if ending.stopped:
        raise KeyboardInterrupt
    if ending.error is not None:
        raise ending.error
    stats = pipeline.stats()
    remarks = pipeline.backend_remarks
    return Measured(stats, pipeline.backend_description, remarks, load.load(), energy.energy())


@dataclass(frozen=True, slots=True)
class Alone:
    """Median ms of each stage for one frame after the other on one thread: the bare work."""

    frames: int
    frame_wh: tuple[int, int]
    frame_bytes: int
    stages_ms: Mapping[str, float]

    @property
    def on_gpu(self) -> bool:
        """Whether another device than the processor does the work."""
        return "upload" in self.stages_ms

    @property
    def work_ms(self) -> float:
        """Of a frame, all stages."""
        return sum(self.stages_ms.values())

    @property
    def bound_fps(self) -> float:
        """What no schedule of this work exceeds.

        On the processor all work shared out over all cores; on a GPU its slowest resource: the
        decoding thread, one of the copy engines, or the computing.
        """
        ms = self.stages_ms
        if not self.on_gpu:
            return cores() * 1e3 / self.work_ms
        computing = ms["preprocess"] + ms["network"] + ms["postprocess"]
        return 1e3 / max(ms["read"], ms["upload"], ms["download"], computing)

    def figures(self, fps: float) -> dict[str, Any]:
        """For JSON; ``fps``: what the pipeline reached."""
        return {
            "frames": self.frames,
            "size": list(self.frame_wh),
            "stages_ms": {
                s: round(self.stages_ms[s], 4) if s in self.stages_ms else None for s in STAGES
            },
            "work_ms": round(self.work_ms, 4),
            "bound_fps": round(self.bound_fps, 2),
            "reached": round(fps / self.bound_fps, 3),
        }


def measure_alone(config: Config, model: Model, source: str) -> Alone:
    """Read, enqueue and collect in turn, one frame in flight, one thread."""
    config = replace(config, workers=1, threads=1, slots=1)
    times_ns: dict[str, list[int]] = {}
    frames = make_source(source, realtime=False)
    with backend_factory(config, model, Policy.LATEST)(lambda: None) as backend:
        slot = backend.slots[0]
        frames.open()
        try:
            count = 0
            while count < ALONE_FRAMES + WARM_UP:
                start_ns = perf_counter_ns()
                frame = frames.read(READ_S)
                read_ns = perf_counter_ns() - start_ns
                if frame is None:
                    continue
                slot.enqueue(frame)
                _, stages_ns = slot.collect()
                size, nbytes = frame.wh_px, frame.pixels.nbytes
                count += 1
                if count <= WARM_UP:  # counted only where nothing comes after them
                    times_ns.clear()
                for name, value_ns in {"read": read_ns, **stages_ns}.items():
                    times_ns.setdefault(name, []).append(value_ns)
        except SourceEnded:
            pass
        finally:
            frames.close()
    stages_ms = {name: median(values) / 1e6 for name, values in times_ns.items()}
    return Alone(len(times_ns["read"]), size, nbytes, stages_ms)


def _rounded(triple: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(v, 3) for name, v in zip(QUANTILES, triple, strict=True)}
