"""What does the NVIDIA GPU draw?"""

from __future__ import annotations

from collections.abc import Mapping

from app.nvml import Nvml, open_nvml


class NvmlPower:
    """The GPU that the application uses. Jetsons do not answer: they have INA3221."""

    averaged = False
    covers = "GPU"

    def __init__(self, gpu: Nvml) -> None:
        self._gpu = gpu
        self.read()  # told now rather than in the middle of a run

    def read(self) -> Mapping[str, float]:
        """See PowerSensor."""
        return {"GPU": self._gpu.power_w()}


def find_nvml(opened: tuple[Nvml | None, str] | None = None) -> tuple[NvmlPower | None, str]:
    """The sensor, or why there is none; no reason where there is no driver to ask."""
    gpu, reason = opened or open_nvml()
    if gpu is None:
        return None, reason
    try:
        return NvmlPower(gpu), ""
    except OSError as fault:
        return None, f"the GPU's power is not told ({fault})"
