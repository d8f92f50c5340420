"""What does the NVIDIA GPU draw? (NVML, through the optional nvidia-ml-py)"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DRIVER = Path("/proc/driver/nvidia/version")


class Nvml:
    """GPU ``index``, as the application uses it. Jetsons do not answer: they have INA3221."""

    averaged = False

    def __init__(self, nvml: Any, index: int = 0) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        self.covers = "GPU"
        self.read()  # told now rather than in the middle of a run

    def read(self) -> Mapping[str, float]:
        """See PowerSensor."""
        try:
            return {"GPU": self._nvml.nvmlDeviceGetPowerUsage(self._gpu) / 1e3}
        except self._nvml.NVMLError as fault:
            raise OSError(f"NVML: {fault}") from fault


def find_nvml(nvml: Any = None, *, driver: Path = DRIVER) -> tuple[Nvml | None, str]:
    """The sensor, or why there is none; no reason where there is no driver to ask."""
    if nvml is None:
        if not driver.exists():
            return None, ""
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None, "the GPU's power needs nvidia-ml-py: pip install nvidia-ml-py"
    try:
        return Nvml(nvml), ""
    except (nvml.NVMLError, OSError) as fault:
        return None, f"NVML does not tell the GPU's power ({fault})"
