"""How busy, full and warm is the machine? What it does not tell is None."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.session_state import MachineLoad

log = logging.getLogger(__name__)

# drivers of the processor's own sensors, as the kernel names them
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal")
_JETSON_LOADS = ("devices/gpu.0/load", "devices/platform/gpu.0/load", "devices/platform/*gpu*/load")


class MachineGauge:
    """Reads the machine's own figures; on one thread. A call takes some milliseconds."""

    def __init__(self, sys_dir: Path = Path("/sys")) -> None:
        self._sys = sys_dir
        self._psutil = self._process = None
        with contextlib.suppress(ImportError):
            import psutil

            self._psutil, self._process = psutil, psutil.Process()
            # both measure from one call to the next, so the first answers mean nothing
            psutil.cpu_percent()
            self._process.cpu_percent()
        self._nvml, self._gpu = _open_nvml()

    def read(self) -> MachineLoad:
        """All that can be told now."""
        cpu = process_cpu = memory_mb = None
        if self._psutil is not None and self._process is not None:
            cpu, process_cpu = self._psutil.cpu_percent(), self._process.cpu_percent()
            memory_mb = self._process.memory_info().rss / 1e6
        gpu, gpu_memory_mb, gpu_power_w, gpu_c = self._nvidia()
        return MachineLoad(
            cpu_percent=cpu,
            process_cpu_percent=process_cpu,
            memory_mb=memory_mb,
            gpu_percent=self._jetson_gpu() if gpu is None else gpu,
            gpu_memory_mb=gpu_memory_mb,
            temperature_c=self._cpu_temperature() if gpu_c is None else gpu_c,
            power_w=self._jetson_power() if gpu_power_w is None else gpu_power_w,
        )

    def _nvidia(self) -> tuple[float | None, ...]:
        nvml = self._nvml
        if nvml is None:
            return (None,) * 4
        return (
            _told(lambda: float(nvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu)),
            _told(lambda: nvml.nvmlDeviceGetMemoryInfo(self._gpu).used / 1e6),
            _told(lambda: nvml.nvmlDeviceGetPowerUsage(self._gpu) / 1e3),
            _told(
                lambda: float(nvml.nvmlDeviceGetTemperature(self._gpu, nvml.NVML_TEMPERATURE_GPU))
            ),
        )

    def _jetson_gpu(self) -> float | None:
        for pattern in _JETSON_LOADS:
            for path in self._sys.glob(pattern):
                load = _number(path)  # in tenths of a percent
                if load is not None:
                    return load / 10
        return None

    def _jetson_power(self) -> float | None:
        """What the board draws: the first channel of its INA3221 is the input."""
        for hwmon in self._sys.glob("class/hwmon/hwmon*"):
            if _text(hwmon / "name") == "ina3221":
                millivolts, milliamps = _number(hwmon / "in1_input"), _number(hwmon / "curr1_input")
                if millivolts is not None and milliamps is not None:
                    return millivolts * milliamps / 1e6
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


def _open_nvml() -> tuple[Any, Any]:
    """NVML and the first GPU, or (None, None)."""
    try:
        import pynvml
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError as error:
        log.debug("no figures of a GPU: %s", error)
        return None, None


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
