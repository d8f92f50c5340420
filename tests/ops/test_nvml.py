"""What NVML tells is passed on, and its silence is told as such."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.ops.machine import open_nvml


class Library:
    """As pynvml; ``fault`` is what every question is answered with, ``faults`` those by name."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    fault = ""

    def __init__(self, **faults: str) -> None:
        self.faults = faults

    def __getattr__(self, name: str):
        answers = {
            "nvmlInit": None,
            "nvmlDeviceGetHandleByIndex": "GPU 0",
            "nvmlDeviceGetPowerUsage": 72_500,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=80),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=2_000_000_000),
            "nvmlDeviceGetTemperature": 61,
        }

        def ask(*args):
            if fault := self.fault or self.faults.get(name):
                raise self.NVMLError(fault)
            return answers[name]

        return ask


def test_figures_in_their_units() -> None:
    gpu, reason = open_nvml(Library())
    assert gpu is not None and reason == ""
    assert (gpu.power_w(), gpu.load_percent()) == (72.5, 80.0)
    assert (gpu.memory_bytes(), gpu.temperature_c()) == (2_000_000_000, 61.0)


def test_figure_that_is_not_told_is_an_oserror() -> None:
    library = Library()
    gpu, _ = open_nvml(library)
    assert gpu is not None
    library.fault = "Not Supported"
    for ask in (gpu.power_w, gpu.load_percent, gpu.memory_bytes, gpu.temperature_c):
        with pytest.raises(OSError, match="NVML: Not Supported"):
            ask()


def test_library_that_does_not_start_is_the_reason() -> None:
    library = Library()
    library.fault = "Driver Not Loaded"
    assert open_nvml(library) == (None, "NVML: Driver Not Loaded")


def test_nothing_is_asked_where_there_is_no_driver(tmp_path: Path) -> None:
    assert open_nvml(driver=tmp_path / "none") == (None, "")
