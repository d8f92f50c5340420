"""The machine's word is passed on, and silence is kept apart from zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.ops.machine import open_nvml
from app.ops.power import PowerReading
from app.session.figures import MachineGauge
from app.session.state import MachineLoad
from tests.ops.test_nvml import Library


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def gauge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineGauge:
    made = MachineGauge(tmp_path)
    made._gpu = None
    if made._psutil is not None:
        monkeypatch.setattr(made._psutil, "sensors_temperatures", lambda: {}, raising=False)
    return made


def test_machine_that_tells_nothing_more(gauge: MachineGauge) -> None:
    load = gauge.read()
    assert load.memory_mb is None or load.memory_mb > 10
    assert (load.gpu_percent, load.gpu_memory_mb, load.temperature_c, load.power_w) == (None,) * 4


def test_jetson_tells_gpu_and_temperature(gauge: MachineGauge, tmp_path: Path) -> None:
    write(tmp_path / "devices/gpu.0/load", "437")
    write(tmp_path / "class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path / "class/thermal/thermal_zone0/temp", "51500")
    load = gauge.read()
    assert load.gpu_percent == 43.7 and load.temperature_c == 51.5


def test_power_is_what_the_meter_reads(tmp_path: Path) -> None:
    gauge = MachineGauge(tmp_path, power=lambda: PowerReading(7.5, covers="GPU"))
    assert (gauge.read().power_w, gauge.read().power_covers) == (7.5, "GPU")


def test_what_a_gpu_cannot_measure_is_none(gauge: MachineGauge) -> None:
    gauge._gpu, _ = open_nvml(Library(nvmlDeviceGetTemperature="Not Supported"))
    load = gauge.read()
    assert (load.gpu_percent, load.gpu_memory_mb, load.temperature_c) == (80.0, 2000.0, None)


def test_without_psutil_there_are_no_figures(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert MachineGauge(tmp_path).read() == MachineLoad()
