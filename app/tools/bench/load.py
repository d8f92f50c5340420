"""What did a run cost the machine: processor time, utilisation, memory of the GPU?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from time import monotonic_ns, process_time_ns
from typing import Any

from app.backends.cpu import cores
from app.detections import Result
from app.frame import SourceInfo
from app.session.machine import MachineGauge
from app.session_state import MachineLoad

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
