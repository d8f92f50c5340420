"""How busy, full and warm is the machine? What it does not tell is None."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.nvml import open_nvml
from app.session_state import MachineLoad

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
