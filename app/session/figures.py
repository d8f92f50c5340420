"""Figures of a session: machine load, recent speed, totals over its engines."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from time import monotonic_ns
from typing import Any, Protocol

from ..core.detections import Result
from ..core.frame import SourceInfo
from ..core.stats import Meter, PipelineStats, percentiles
from ..ops.machine import open_nvml
from ..pipeline.pipeline import Pipeline
from .state import Figures, MachineLoad

log = logging.getLogger(__name__)


# drivers of the processor's own sensors, as the kernel names them
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
_JETSON_LOADS = ("devices/gpu.0/load", "devices/platform/gpu.0/load", "devices/platform/*gpu*/load")


class Draw(Protocol):
    """What is drawn now. None: not told."""

    @property
    def watts(self) -> float | None:
        """Of all that is covered."""

    @property
    def covers(self) -> str:
        """What the figure includes."""


@dataclass(frozen=True, slots=True)
class UnknownDraw:
    """Nothing tells."""

    watts: float | None = None
    covers: str = ""


class MachineGauge:
    """Reads the machine's own figures; on one thread. A call takes some milliseconds."""

    def __init__(
        self, sys_dir: Path = Path("/sys"), *, power: Callable[[], Draw] = UnknownDraw
    ) -> None:
        self._sys, self._power = sys_dir, power
        self._psutil = self._process = None
        with contextlib.suppress(ImportError):
            import psutil

            self._psutil, self._process = psutil, psutil.Process()
            psutil.cpu_percent()  # measures from one call to the next: the first means nothing
        self._gpu, reason = open_nvml()
        if reason:
            log.debug("no figures of a GPU: %s", reason)

    def read(self) -> MachineLoad:
        """All that can be told now."""
        cpu = memory_mb = None
        if self._psutil is not None and self._process is not None:
            cpu = self._psutil.cpu_percent()
            memory_mb = self._process.memory_info().rss / 1e6
        load = memory_bytes = gpu_c = None
        if self._gpu is not None:
            load, gpu_c = _told(self._gpu.load_percent), _told(self._gpu.temperature_c)
            memory_bytes = _told(self._gpu.memory_bytes)
        power = self._power()
        return MachineLoad(
            cpu_percent=cpu,
            memory_mb=memory_mb,
            gpu_percent=self._jetson_gpu() if load is None else load,
            gpu_memory_mb=None if memory_bytes is None else memory_bytes / 1e6,
            temperature_c=self._cpu_temperature() if gpu_c is None else gpu_c,
            power_w=power.watts,
            power_covers=power.covers,
        )

    def _jetson_gpu(self) -> float | None:
        for pattern in _JETSON_LOADS:
            for path in self._sys.glob(pattern):
                load = _number(path)  # in tenths of a percent
                if load is not None:
                    return load / 10
        return None

    def _cpu_temperature(self) -> float | None:
        sensors = getattr(self._psutil, "sensors_temperatures", None)
        found: dict[str, Any] = (_told(sensors) or {}) if sensors else {}
        for name in _CPU_SENSORS:
            values = [each.current for each in found.get(name, ()) if each.current]
            if values:
                return float(max(values))
        return max(self._zones(), default=None)

    def _zones(self) -> Iterator[float]:
        for zone in self._sys.glob("class/thermal/thermal_zone*"):
            if "cpu" in _text(zone / "type").lower() or "x86_pkg" in _text(zone / "type"):
                millidegrees = _number(zone / "temp")
                if millidegrees:
                    yield millidegrees / 1000


def _told(ask: Any) -> Any:
    """The answer, or None where there is none: drivers leave out what a board cannot measure."""
    try:
        return ask()
    except Exception as error:  # NVMLError has no common root with what psutil raises
        log.debug("not told: %s", error)
        return None


def _text(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""


def _number(path: Path) -> float | None:
    with contextlib.suppress(ValueError):
        return float(_text(path))
    return None


SPAN_NS = 3_000_000_000


class RecentSink:
    """Keeps the ages and stage times of the results of the last 3 s; any thread may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: deque[tuple[int, int, Mapping[str, int]]] = deque(maxlen=2000)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Another source or model: what was measured before says nothing of it."""
        with self._lock:
            self._kept.clear()

    def emit(self, result: Result) -> None:
        """Note one result."""
        now_ns = monotonic_ns()
        with self._lock:
            self._kept.append((now_ns, result.age_ns, result.stages_ns))
            while now_ns - self._kept[0][0] > SPAN_NS:
                self._kept.popleft()

    def close(self) -> None:
        """Nothing to finish."""

    def ages_ms(self) -> tuple[float, float]:
        """(p50, p95); NaN where there is nothing recent."""
        p50, p95 = percentiles([age_ns / 1e6 for _, age_ns, _ in self._recent()], 50, 95)
        return p50, p95

    def stages_ms(self) -> dict[str, float]:
        """Median of each stage, in the order in which a frame passes them."""
        times: dict[str, list[int]] = {}
        for _, _, stages_ns in self._recent():
            for name, value_ns in stages_ns.items():
                times.setdefault(name, []).append(value_ns)
        return {name: percentiles(values, 50)[0] / 1e6 for name, values in times.items()}

    def _recent(self) -> list[tuple[int, int, Mapping[str, int]]]:
        since_ns = monotonic_ns() - SPAN_NS
        with self._lock:
            return [each for each in self._kept if each[0] >= since_ns]


class Tally:
    """Adds up pipelines, one after the other. Written by the session's thread, read by any."""

    def __init__(self) -> None:
        self.recent = RecentSink()
        self.remarks: Sequence[str] = ()  # of the last engine that ended, for the report
        self._past: tuple[PipelineStats, ...] = ()
        self._now: Pipeline | None = None

    def begin(self, pipeline: Pipeline) -> None:
        """This one makes the results from now on."""
        self._now = pipeline

    def end(self) -> None:
        """It has ended."""
        pipeline, self._now = self._now, None
        if pipeline is not None:
            self._past = (*self._past, pipeline.stats())
            self.remarks = pipeline.backend_remarks

    @property
    def processed(self) -> int:
        """Frames that are results now."""
        return sum(each.processed for each in self._parts(counts_only=True))

    @property
    def has_begun(self) -> bool:
        """Whether there was ever an engine."""
        return bool(self._past) or self._now is not None

    def stats(self, state: str, events: Mapping[str, int]) -> PipelineStats:
        """Counts of all of them, the rest of the last; ``events`` are the sources'."""
        parts = self._parts()
        total = _total(parts) if parts else Meter().snapshot()
        counted = Counter(total.events)
        counted.update(events)
        return replace(total, state=state, events=dict(counted))

    def figures(self) -> Figures:
        """What the window shows; cheap."""
        parts = self._parts(counts_only=True)
        if not parts:
            return Figures()
        total, runs = _total(parts), self._now is not None
        p50, p95 = self.recent.ages_ms()
        return Figures(
            fps=total.fps if runs else 0.0,
            capture_fps=total.capture_fps if runs else 0.0,
            age_p50_ms=p50,
            age_p95_ms=p95,
            stages_ms=self.recent.stages_ms(),
            captured=total.captured,
            processed=total.processed,
            dropped=total.dropped,
        )

    def _parts(self, *, counts_only: bool = False) -> list[PipelineStats]:
        now, parts = self._now, list(self._past)
        if now is not None:
            parts.append(now.counts() if counts_only else now.stats())
        return parts


def _total(parts: Sequence[PipelineStats]) -> PipelineStats:
    dropped: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for each in parts:
        dropped.update(each.dropped)
        events.update(each.events)
    return replace(
        parts[-1],
        captured=sum(each.captured for each in parts),
        processed=sum(each.processed for each in parts),
        dropped=dict(dropped),
        events=dict(events),
    )
