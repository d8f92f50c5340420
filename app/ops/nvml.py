"""NVML: what NVIDIA's library tells of the GPU, through the optional nvidia-ml-py."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

DRIVER = Path("/proc/driver/nvidia/version")


class Nvml:
    """One GPU, the first one unless told otherwise. A figure it cannot tell raises OSError."""

    def __init__(self, library: Any, index: int = 0) -> None:
        self._library = library
        self._told(library.nvmlInit)
        self._gpu = self._told(lambda: library.nvmlDeviceGetHandleByIndex(index))

    def power_w(self) -> float:
        """Drawn now."""
        return float(self._told(lambda: self._library.nvmlDeviceGetPowerUsage(self._gpu))) / 1e3

    def load_percent(self) -> float:
        """Share of the last moments in which a kernel ran."""
        load = self._told(lambda: self._library.nvmlDeviceGetUtilizationRates(self._gpu))
        return float(load.gpu)

    def memory_bytes(self) -> int:
        """In use, by all processes. On a Jetson OSError: there it is the system's memory."""
        return int(self._told(lambda: self._library.nvmlDeviceGetMemoryInfo(self._gpu)).used)

    def temperature_c(self) -> float:
        """Of the chip."""
        kind = self._library.NVML_TEMPERATURE_GPU
        ask = self._library.nvmlDeviceGetTemperature
        return float(self._told(lambda: ask(self._gpu, kind)))

    def _told(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._library.NVMLError as fault:
            raise OSError(f"NVML: {fault}") from fault


def open_nvml(library: Any = None, *, driver: Path = DRIVER) -> tuple[Nvml | None, str]:
    """The GPU, or why nothing can be told of it; no reason where there is no driver to ask."""
    if library is None:
        if not driver.exists():
            return None, ""
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            return None, "the GPU's figures need nvidia-ml-py: pip install nvidia-ml-py"
    try:
        return Nvml(library), ""
    except OSError as fault:
        return None, str(fault)
