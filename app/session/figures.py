"""Figures of a session: machine load and recent latency."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from time import monotonic_ns
from typing import Any

from ..core.detections import Result
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.stats import percentiles
from ..ops.machine import open_nvml
from ..ops.power import PowerReading
from .state import MachineLoad

log = logging.getLogger(__name__)


# drivers of the processor's own sensors, as the kernel names them
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
_JETSON_LOADS = ("devices/gpu.0/load", "devices/platform/gpu.0/load", "devices/platform/*gpu*/load")


def no_power() -> PowerReading:
    return PowerReading(None)


class MachineGauge:
    """Reads the machine's own figures; on one thread. A call takes some milliseconds."""

    def __init__(
        self, sys_dir: Path = Path("/sys"), *, power: Callable[[], PowerReading] = no_power
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


class RollingLatency(Sink):
    """Keeps the ages and stage times of the results of the last 3 s; any thread may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: deque[tuple[int, int, Mapping[str, int]]] = deque(maxlen=2000)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Another source or model: what was measured before says nothing of it."""
        with self._lock:
            self._kept.clear()

    def emit(self, result: Result) -> None:
        now_ns = monotonic_ns()
        with self._lock:
            self._kept.append((now_ns, result.age_ns, result.stages_ns))
            while now_ns - self._kept[0][0] > SPAN_NS:
                self._kept.popleft()

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
