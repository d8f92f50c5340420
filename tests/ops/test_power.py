"""Watts from made-up machines, and what a frame cost; never 0 for "unknown"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from app.core.detections import Detections, Result
from app.core.frame import Frame, SourceInfo
from app.ops.machine import open_nvml
from app.ops.power import (
    EnergySink,
    PowerSensor,
    find_ina3221,
    find_nvml,
    find_rapl,
    find_sensors,
)
from tests.ops.test_nvml import Library


def put(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


class Clock:
    """Nanoseconds that move when told."""

    def __init__(self) -> None:
        self.ns = 1_000

    def __call__(self) -> int:
        return self.ns

    def forward(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def jetson(root: Path, rails: Mapping[str, tuple[int, int]]) -> None:
    """Orin's sysfs: (mV, mA) by label, and the shunt voltages that look like rails."""
    folder = root / "sys/class/hwmon/hwmon1"
    put(folder / "name", "ina3221")
    for n, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        put(folder / f"in{n}_label", label)
        put(folder / f"in{n}_input", millivolts)
        put(folder / f"curr{n}_input", milliamperes)
        put(folder / f"in{n + 3}_input", 80)
    put(folder / "in7_label", "sum of shunt voltages")
    put(folder / "in7_input", 240)


def rapl(root: Path, package: int, uj: int, *, zone: str = "intel-rapl") -> Path:
    folder = root / f"sys/class/powercap/{zone}:{package}"
    put(folder / "name", f"package-{package}")
    put(folder / "max_energy_range_uj", 999_999)
    put(folder / "energy_uj", uj)
    return folder


# --- a Jetson ------------------------------------------------------------------------------------


def test_the_rail_that_feeds_a_jetson_is_its_power(tmp_path: Path) -> None:
    jetson(tmp_path, {"VDD_IN": (5000, 1500), "VDD_CPU_GPU_CV": (5000, 600), "VDD_SOC": (5000, 3)})
    sensor, _ = find_ina3221(tmp_path)
    assert sensor is not None and sensor.read() == {"VDD_IN": pytest.approx(7.5)}
    assert sensor.covers == "whole board (VDD_IN)"


def test_without_a_feeding_rail_all_are_added_and_unused_channels_left_out(tmp_path: Path) -> None:
    jetson(tmp_path, {"VDD_GPU_SOC": (20_000, 500), "NC": (1, 1), "VIN_SYS_5V0": (5000, 1000)})
    sensor, _ = find_ina3221(tmp_path)
    assert sensor is not None and sum(sensor.read().values()) == pytest.approx(15.0)
    assert sensor.covers == "sum of the rails VDD_GPU_SOC, VIN_SYS_5V0"


def test_jetpack_4_has_other_paths(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for n, (label, milliwatts) in enumerate([("POM_5V_IN", 2345), ("POM_5V_GPU", 120)]):
        put(folder / f"rail_name_{n}", label)
        put(folder / f"in_power{n}_input", milliwatts)
    sensor, _ = find_ina3221(tmp_path)
    assert sensor is not None and sensor.read() == {"POM_5V_IN": pytest.approx(2.345)}


def test_another_chip_of_hwmon_is_no_power_sensor(tmp_path: Path) -> None:
    jetson(tmp_path, {"VDD_IN": (5000, 1500)})
    put(tmp_path / "sys/class/hwmon/hwmon1/name", "nvme")
    assert find_ina3221(tmp_path) == (None, "")


def test_a_sensor_that_gives_no_number_is_told(tmp_path: Path) -> None:
    jetson(tmp_path, {"VDD_IN": (5000, 1500)})
    put(tmp_path / "sys/class/hwmon/hwmon1/curr1_input", "")
    sensor, reason = find_ina3221(tmp_path)
    assert sensor is None and "no number" in reason


# --- processors ----------------------------------------------------------------------------------


def test_rapl_gives_the_mean_since_the_last_read_and_wraps_around(tmp_path: Path) -> None:
    clock = Clock()
    first, second = rapl(tmp_path, 0, 100_000), rapl(tmp_path, 1, 900_000)
    rapl(tmp_path, 0, 100_000, zone="intel-rapl-mmio")  # the same counter once more
    put(tmp_path / "sys/class/powercap/intel-rapl:0:0/energy_uj", 50_000)  # a part of the first
    sensor, _ = find_rapl(tmp_path, clock_ns=clock)
    assert sensor is not None and sensor.read() == {}
    clock.forward(0.5)
    put(first / "energy_uj", 600_000)
    put(second / "energy_uj", 100_000)  # 100,000 up to the range, and as many again
    assert sensor.read() == {"package-0": pytest.approx(1.0), "package-1": pytest.approx(0.4)}


def test_closed_counters_name_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = rapl(tmp_path, 0, 1) / "energy_uj"
    read = Path.read_text

    def guarded(self: Path) -> str:
        if self == closed:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_text", guarded)
    sensor, reason = find_rapl(tmp_path)
    assert sensor is None and "closed to this user: sudo chmod" in reason


# --- the GPU -------------------------------------------------------------------------------------


def test_nvml_tells_the_gpus_watts() -> None:
    sensor, _ = find_nvml(open_nvml(Library()))
    assert sensor is not None and sensor.read() == {"GPU": 72.5}


def test_a_gpu_that_does_not_tell_is_unavailable() -> None:
    sensor, reason = find_nvml(open_nvml(Library(nvmlDeviceGetPowerUsage="Not Supported")))
    assert sensor is None and "Not Supported" in reason


# --- which are taken -----------------------------------------------------------------------------


def test_a_board_sensor_is_taken_alone(tmp_path: Path) -> None:
    jetson(tmp_path, {"VDD_IN": (5000, 1500)})
    rapl(tmp_path, 0, 1)
    sensors, reason = find_sensors(tmp_path)
    assert [sensor.covers for sensor in sensors] == ["whole board (VDD_IN)"] and not reason


def test_a_machine_that_tells_nothing_says_so(tmp_path: Path) -> None:
    assert find_sensors(tmp_path) == ([], "this machine has no power sensor")


# --- the meter -----------------------------------------------------------------------------------


MACHINE = SourceInfo("fake:", False)


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are taken when a test says so, not by the thread."""
    monkeypatch.setattr("app.ops.power.PERIOD_S", 3600.0)


class Sensor:
    """Gives what it is told; an exception is raised."""

    def __init__(self, *watts: float | OSError | None, averaged: bool = False) -> None:
        self.covers, self.averaged = "all", averaged
        self._watts = list(watts)

    def read(self) -> Mapping[str, float]:
        value = self._watts.pop(0) if len(self._watts) > 1 else self._watts[0]
        if isinstance(value, OSError):
            raise value
        return {} if value is None else {"rail": value}


def metered(clock: Clock, *sensors: PowerSensor, reason: str = "") -> EnergySink:
    def find() -> tuple[Sequence[PowerSensor], str]:
        return sensors, reason

    return EnergySink(find, clock_ns=clock)


def test_joules_are_watts_over_time() -> None:
    clock = Clock()
    meter = metered(clock, Sensor(10.0, 20.0, 20.0))
    meter.open(MACHINE, ())
    for _ in range(2):
        clock.forward(1.0)
        meter.sample()
    assert meter.measured() == (pytest.approx(15 + 20), pytest.approx(2.0))
    assert meter.reading().watts == 20.0 and str(meter.reading()) == "20.0 W"


def test_an_averaged_sensor_counts_for_the_time_before() -> None:
    clock = Clock()
    meter = metered(clock, Sensor(None, 30.0, 10.0, averaged=True))
    meter.open(MACHINE, ())
    assert meter.reading().watts is None
    for _ in range(2):
        clock.forward(0.5)
        meter.sample()
    assert meter.measured() == (pytest.approx(15 + 5), pytest.approx(1.0))


def test_sensors_are_added_up() -> None:
    clock = Clock()
    meter = metered(clock, Sensor(5.0), Sensor(None, 7.0, averaged=True))
    meter.open(MACHINE, ())
    clock.forward(1.0)
    meter.sample()
    assert meter.reading().covers == "all + all"
    assert meter.measured() == (pytest.approx(12.0), pytest.approx(1.0))


def test_a_sensor_that_goes_away_makes_the_rest_unavailable_rather_than_wrong() -> None:
    clock = Clock()
    meter = metered(clock, Sensor(5.0, 5.0, OSError("gone")))
    meter.open(MACHINE, ())
    clock.forward(1.0)
    meter.sample()
    meter.sample()
    assert meter.reading().watts is None and meter.reading().reason == "gone"
    assert meter.measured() is None


def test_an_old_sample_says_nothing_of_now() -> None:
    clock = Clock()
    meter = metered(clock, Sensor(5.0))
    meter.open(MACHINE, ())
    clock.forward(3.0)
    assert meter.reading().watts is None and str(meter.reading()) == "unavailable"


def test_the_thread_samples_and_ends() -> None:
    meter = EnergySink(lambda: ([Sensor(8.0)], ""))
    meter.open(MACHINE, ())
    meter.close()  # takes the last sample
    energy = meter.measured()
    assert energy is not None and energy[0] == pytest.approx(8 * energy[1])


# --- what a frame cost ---------------------------------------------------------------------------

RESULT = Result(Frame(np.zeros((2, 2, 3), np.uint8), 0, 0), Detections.empty(), 1)


def run(sink: EnergySink, frames: int, clock: Clock) -> EnergySink:
    sink.open(MACHINE, ())
    for _ in range(frames):
        sink.emit(RESULT)
    clock.forward(2.0)
    sink.close()
    sink.close()
    return sink


def test_a_run_ends_with_joules_a_frame_and_frames_a_watt() -> None:
    clock = Clock()
    energy = run(metered(clock, Sensor(10.0)), 40, clock).energy()
    assert (energy.joules_per_frame, energy.fps_per_watt) == (pytest.approx(0.5), pytest.approx(2))
    assert energy.line() == "10.0 W on average, 0.5 J a frame, 2 frames/s per W (all)"
    assert json.loads(json.dumps(energy.figures()))["watts"] == 10.0


@pytest.mark.parametrize("frames", [0, 3])
def test_unavailable_is_never_zero(frames: int) -> None:
    clock = Clock()
    energy = run(metered(clock, reason="no sensor"), frames, clock).energy()
    assert energy.line() == "unavailable: no sensor"
    assert energy.figures()["watts"] is None and energy.figures()["joules_per_frame"] is None


def test_a_counter_that_has_not_moved_is_not_zero_watts() -> None:
    clock = Clock()
    energy = run(metered(clock, Sensor(None, 0.0, averaged=True)), 3, clock).energy()
    assert energy.joules_per_frame is None and energy.line().startswith("unavailable")
