"""One measured run of the pipeline: its load on the machine and whether its ages grow."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median
from time import monotonic_ns, perf_counter_ns, process_time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ...core.detections import Result
from ...core.errors import SourceEnded
from ...core.frame import SourceInfo
from ...core.interfaces import EngineKind, Sink
from ...core.stats import PERCENTILES, PipelineStats, percentiles
from ...inference.cpu import cores
from ...models.manifest import Model
from ...ops.power import Energy, EnergySink
from ...pipeline.handoff import Policy
from ...runtime.build import RunPlan, build
from ...runtime.engines import backend_factory
from ...runtime.inputs import NamedInput
from ...runtime.outputs import without_outputs
from ...session.figures import MachineGauge
from ...session.state import MachineLoad
from ...sources.uri import make_source

POINTS = 100  # of the curve, however long the run


def drift(ages_ms: NDArray[np.float64]) -> dict[str, Any]:
    """p99 of the first and of the last quarter of the run, and its course: [p50, highest]."""
    quarter = max(1, len(ages_ms) // 4)
    parts = np.array_split(ages_ms, min(POINTS, len(ages_ms)))
    return {
        "age_first_quarter_p99_ms": round(percentiles(ages_ms[:quarter], 99)[0], 3),
        "age_last_quarter_p99_ms": round(percentiles(ages_ms[-quarter:], 99)[0], 3),
        "age_course_ms": [[round(v, 3) for v in percentiles(part, 50, 100)] for part in parts],
    }


PERIOD_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Means from the first result to the last. None: not told, or too short to say."""

    process_cpu_percent: float | None = None  # of all the cores this process may use
    process_cpu_ms_per_frame: float | None = None
    machine_cpu_percent: float | None = None  # of all cores, whoever uses them
    gpu_percent: float | None = None
    gpu_memory_mb: float | None = None  # highest seen; of the whole GPU

    def figures(self) -> dict[str, Any]:
        """For JSON; null where not told."""
        return {k: v if v is None else round(v, 3) for k, v in asdict(self).items()}


class LoadSink:
    """A sink, as those are opened once the engine is built; samples on a thread of its own."""

    def __init__(self, gauge: MachineGauge | None = None) -> None:
        self._gauge = gauge or MachineGauge()
        self._samples: list[MachineLoad] = []
        self._first = self._last = (0, 0)
        self._frames = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="load", daemon=True)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Start to sample."""
        self._gauge.read()  # percentages count from one look to the next
        self._thread.start()

    def emit(self, result: Result) -> None:
        """Note the clocks."""
        self._last = (monotonic_ns(), process_time_ns())
        if not self._frames:
            self._first = self._last
        self._frames += 1

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._samples.append(self._gauge.read())

    def load(self) -> Load:
        """Over the whole run; after ``close``."""
        wall_ns, cpu_ns = (b - a for a, b in zip(self._first, self._last, strict=True))
        if self._frames < 2 or wall_ns <= 0:
            return Load()
        gpu_memory = [s.gpu_memory_mb for s in self._samples if s.gpu_memory_mb is not None]
        return Load(
            process_cpu_percent=100 * cpu_ns / wall_ns / cores(),
            process_cpu_ms_per_frame=cpu_ns / (self._frames - 1) / 1e6,
            machine_cpu_percent=_mean([s.cpu_percent for s in self._samples]),
            gpu_percent=_mean([s.gpu_percent for s in self._samples]),
            gpu_memory_mb=max(gpu_memory, default=None),
        )


def _mean(values: Sequence[float | None]) -> float | None:
    told = [v for v in values if v is not None]
    return fmean(told) if told else None


STAGES = ("read", "upload", "preprocess", "network", "postprocess", "download", "sinks")
QUANTILES = tuple(f"p{percent}" for percent in PERCENTILES)
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
    kind: EngineKind | None = None  # of the engine

    def figures(self) -> dict[str, Any]:
        """For JSON. A stage that the engine does not have is null, never 0."""
        figures, stages = asdict(self.stats), self.stats.stages_ms
        del figures["state"], figures["fps"], figures["capture_fps"]
        return figures | {
            "overall_fps": round(self.stats.overall_fps, 2),
            "age_ms": _rounded(self.stats.age_ms),
            "stages_ms": {s: _rounded(stages[s]) if s in stages else None for s in STAGES},
            "load": self.load.figures(),
        }


def measure_run(
    config: Config, model: Model, source: str, policy: Policy, sinks: Sequence[Sink] = ()
) -> Measured:
    """Run to the end. Raises what ended it early; KeyboardInterrupt after a signal."""
    load, energy = LoadSink(), EnergySink()
    run = build(
        RunPlan(
            config=replace(without_outputs(config), max_age_ms=None),
            policy=policy,
            model=model,
            inputs=[NamedInput("", make_source(source, realtime=policy is Policy.LATEST))],
            sinks=[load, energy, *sinks],
            reports=False,
        )
    )
    ending = run.finish()
    if ending.stopped:
        raise KeyboardInterrupt
    if ending.error is not None:
        raise ending.error
    pipeline = run.pipeline
    return Measured(
        pipeline.stats(),
        pipeline.backend_description,
        pipeline.backend_remarks,
        load.load(),
        energy.energy(),
        pipeline.backend_kind,
    )


@dataclass(frozen=True, slots=True)
class Alone:
    """Median ms of each stage for one frame after the other on one thread: the bare work."""

    frames: int
    frame_wh: tuple[int, int]
    frame_bytes: int
    stages_ms: Mapping[str, float]
    pixel_aspect: float = 1.0

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
                slot.enqueue([frame])
                ((_, stages_ns),) = slot.collect()
                size, nbytes, aspect = frame.wh_px, frame.pixels.nbytes, frame.pixel_aspect
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
    return Alone(len(times_ns["read"]), size, nbytes, stages_ms, aspect)


def _rounded(triple: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(v, 3) for name, v in zip(QUANTILES, triple, strict=True)}
