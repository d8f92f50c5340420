"""Is the machine's word passed on, and silence kept apart from zero?"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.session.machine import MachineGauge
from app.session_state import MachineLoad


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def gauge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineGauge:
    made = MachineGauge(tmp_path)
    made._nvml = None
    if made._psutil is not None:
        monkeypatch.setattr(made._psutil, "sensors_temperatures", lambda: {}, raising=False)
    return made


def test_machine_that_tells_nothing_more(gauge: MachineGauge) -> None:
    load = gauge.read()
    assert load.memory_mb is None or load.memory_mb > 10
    assert (load.gpu_percent, load.gpu_memory_mb, load.temperature_c, load.power_w) == (None,) * 4


def test_jetson_tells_gpu_power_and_temperature(gauge: MachineGauge, tmp_path: Path) -> None:
    write(tmp_path / "devices/gpu.0/load", "437")
    write(tmp_path / "class/hwmon/hwmon3/name", "ina3221")
    write(tmp_path / "class/hwmon/hwmon3/in1_input", "5000")
    write(tmp_path / "class/hwmon/hwmon3/curr1_input", "1500")
    write(tmp_path / "class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path / "class/thermal/thermal_zone0/temp", "51500")
    load = gauge.read()
    assert load.gpu_percent == 43.7 and load.power_w == 7.5 and load.temperature_c == 51.5


class Nvml:
    NVML_TEMPERATURE_GPU = 0

    def nvmlDeviceGetUtilizationRates(self, gpu):  # noqa: N802 - NVML's names
        return SimpleNamespace(gpu=80)

    def nvmlDeviceGetMemoryInfo(self, gpu):  # noqa: N802
        return SimpleNamespace(used=2_000_000_000)

    def nvmlDeviceGetPowerUsage(self, gpu):  # noqa: N802
        raise RuntimeError("Not Supported")

    def nvmlDeviceGetTemperature(self, gpu, kind):  # noqa: N802
        return 61


def test_what_a_gpu_cannot_measure_is_none(gauge: MachineGauge) -> None:
    gauge._nvml = Nvml()
    load = gauge.read()
    assert (load.gpu_percent, load.gpu_memory_mb, load.power_w) == (80.0, 2000.0, None)
    assert load.temperature_c == 61.0


def test_without_psutil_there_are_no_figures(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert MachineGauge(tmp_path).read() == MachineLoad()
