"""The machine that figures were measured on, and its GPU as NVIDIA's NVML tells of it."""

from __future__ import annotations

import importlib
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = (
    *("numpy", "opencv-python", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("pycuda", "cuda-bindings"),
)
log = logging.getLogger(__name__)


def device() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        log.debug("no /proc/cpuinfo")
    versions = {name: package_version(name) for name in PACKAGES}
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions,
    }


def package_version(package: str) -> str | None:
    # here and not above: it brings the parser of e-mail along, 25 ms of every start
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:  # a system package, or the other ONNX Runtime
        return None


DRIVER = Path("/proc/driver/nvidia/version")


class Nvml:
    """The first GPU. A figure it cannot tell raises OSError."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._told(library.nvmlInit)
        self._gpu = self._told(lambda: library.nvmlDeviceGetHandleByIndex(0))

    def power_w(self) -> float:
        return float(self._told(lambda: self._library.nvmlDeviceGetPowerUsage(self._gpu))) / 1e3

    def load_percent(self) -> float:
        """Share of the last moments in which a kernel ran."""
        load = self._told(lambda: self._library.nvmlDeviceGetUtilizationRates(self._gpu))
        return float(load.gpu)

    def memory_bytes(self) -> int:
        """In use, by all processes. On a Jetson OSError: there it is the system's memory."""
        return int(self._told(lambda: self._library.nvmlDeviceGetMemoryInfo(self._gpu)).used)

    def temperature_c(self) -> float:
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
