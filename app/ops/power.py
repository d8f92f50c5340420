"""Power meter: watts now, joules since the start, joules a frame.

A Jetson's INA3221 measures the board, and is taken alone. Elsewhere NVML tells the GPU's power and
RAPL the processors'; those that answer are added up, and what is covered is always told beside the
figure: neither sees memory, disks or the power supply's losses.

Newer Jetsons have the INA3221 as hwmon (kernel.org, hwmon/ina3221: in1_input in mV, curr1_input in
mA, in4 to in6 are shunt voltages), JetPack 4 as iio (in_power0_input in mW).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import Any, NamedTuple

from ..core.detections import Result
from ..core.frame import SourceInfo
from ..core.interfaces import Updatable
from .machine import Nvml, open_nvml


@dataclass(frozen=True, slots=True)
class PowerSensor:
    """One source of watts. Opened by who makes it; read from one thread.

    ``read`` gives watts by rail, to be added up; empty at the first read of an averaged sensor. It
    raises OSError when the sensor has gone.
    """

    read: Callable[[], Mapping[str, float]]
    covers: str  # what the figure includes
    averaged: bool = False  # watts are the mean since the last read, not those of the moment


def find_nvml(opened: tuple[Nvml | None, str] | None = None) -> tuple[PowerSensor | None, str]:
    """The GPU's sensor, or why there is none; no reason where there is no driver to ask.

    Jetsons do not answer: they have INA3221.
    """
    gpu, reason = opened or open_nvml()
    if gpu is None:
        return None, reason
    try:
        gpu.power_w()  # told now rather than in the middle of a run
    except OSError as fault:
        return None, f"the GPU's power is not told ({fault})"
    return PowerSensor(lambda: {"GPU": gpu.power_w()}, "GPU"), ""


WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # rails from which all others are fed
CHANNELS = (1, 2, 3)


class Rail(NamedTuple):
    """Files whose product, times ``scale``, is watts."""

    name: str
    files: tuple[Path, ...]
    scale: float

    def watts(self) -> float:
        product = self.scale
        for file in self.files:
            try:
                product *= int(file.read_text())
            except ValueError as fault:
                raise OSError(f"{file} holds no number") from fault
        return product


def find_ina3221(root: Path = Path("/")) -> tuple[PowerSensor | None, str]:
    """The rail that feeds the board, or, without one, all rails; or why there is no sensor."""
    rails = [*_hwmon(root), *_iio(root)]
    try:
        for rail in rails:
            rail.watts()
    except OSError as fault:
        return None, f"INA3221 cannot be read: {fault.strerror or fault}"
    if not rails:
        return None, ""
    feeding = [rail for rail in rails if rail.name in WHOLE_BOARD]
    used = feeding or rails
    names = ", ".join(rail.name for rail in used)
    covers = f"whole board ({names})" if feeding else f"sum of the rails {names}"
    return PowerSensor(lambda: {rail.name: rail.watts() for rail in used}, covers), ""


def _hwmon(root: Path) -> list[Rail]:
    rails = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(folder / "name") != "ina3221":
            continue
        for n in CHANNELS:
            volts, amperes = folder / f"in{n}_input", folder / f"curr{n}_input"
            label = _text(folder / f"in{n}_label")
            if label and label != "NC" and volts.exists() and amperes.exists():
                rails.append(Rail(label, (volts, amperes), 1e-6))
    return rails


def _iio(root: Path) -> list[Rail]:
    rails = []
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        for n in range(len(CHANNELS)):
            label, file = _text(folder / f"rail_name_{n}"), folder / f"in_power{n}_input"
            if label and label != "NC" and file.exists():
                rails.append(Rail(label, (file,), 1e-3))
    return rails


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


ZONES = "sys/class/powercap"
CURE = "sudo chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj, or run as root"


class Rapl:
    """All packages. The counters count microjoules and wrap around."""

    def __init__(
        self, zones: Sequence[Path], *, clock_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._clock_ns = clock_ns
        self._zones = {_read(zone / "name"): zone for zone in zones}
        self._range_uj = {
            name: int(_read(zone / "max_energy_range_uj")) for name, zone in self._zones.items()
        }
        self._last: tuple[int, dict[str, int]] | None = None

    def read(self) -> Mapping[str, float]:
        now_ns, now_uj = self._clock_ns(), self.counters()
        last, self._last = self._last, (now_ns, now_uj)
        if last is None or now_ns <= last[0]:
            return {}
        then_ns, then_uj = last
        used_uj = {
            name: (uj - then_uj[name]) % (self._range_uj[name] + 1) for name, uj in now_uj.items()
        }
        # µJ over ns is kW
        return {name: uj * 1e3 / (now_ns - then_ns) for name, uj in used_uj.items()}

    def counters(self) -> dict[str, int]:
        """Microjoules by package; raises OSError."""
        try:
            return {name: int(_read(zone / "energy_uj")) for name, zone in self._zones.items()}
        except ValueError as fault:
            raise OSError(f"RAPL gives no number: {fault}") from fault


def find_rapl(
    root: Path = Path("/"), *, clock_ns: Callable[[], int] = monotonic_ns
) -> tuple[PowerSensor | None, str]:
    """The processors' sensor, or why there is none that can be read."""
    # intel-rapl:0 is a package, intel-rapl:0:1 a part of it; -mmio shows the same counters again
    zones = [
        zone
        for zone in sorted((root / ZONES).glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and (zone / "energy_uj").exists()
    ]
    try:
        packages = [zone for zone in zones if _read(zone / "name").startswith("package")]
        if not packages:
            return None, ""
        rapl = Rapl(packages, clock_ns=clock_ns)
        rapl.counters()
        return PowerSensor(rapl.read, "CPU packages", averaged=True), ""
    except PermissionError:
        return None, f"the processors' energy counters are closed to this user: {CURE}"
    except (OSError, ValueError) as fault:
        return None, f"RAPL cannot be read: {fault}"


def _read(file: Path) -> str:
    return file.read_text().strip()


def find_sensors(root: Path = Path("/")) -> tuple[Sequence[PowerSensor], str]:
    """The sensors to add up, and, if there is none, why and what would cure it."""
    board, _ = find_ina3221(root)
    if board is not None:
        return [board], ""
    sensors: list[PowerSensor] = []
    reasons = []
    for sensor, reason in (find_nvml(), find_rapl(root)):
        if sensor is not None:
            sensors.append(sensor)
        elif reason:
            reasons.append(reason)
    return sensors, "" if sensors else "; ".join(reasons) or "this machine has no power sensor"


PERIOD_S = 0.2
STALE_S = 2.0  # an older sample says nothing of now


@dataclass(frozen=True, slots=True)
class PowerReading:
    """``watts`` is None, never 0, where the machine tells nothing: ``reason`` says why."""

    watts: float | None
    rails: Mapping[str, float] = field(default_factory=dict)
    covers: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return "unavailable" if self.watts is None else f"{self.watts:.1f} W"


@dataclass(frozen=True, slots=True)
class Energy:
    """Of a run: the whole draw of what is covered, idle power included. None: unavailable."""

    covers: str
    reason: str
    joules: float | None = None
    seconds: float | None = None
    watts: float | None = None
    joules_per_frame: float | None = None
    fps_per_watt: float | None = None  # frames per second and watt, which is frames per joule

    def line(self) -> str:
        if self.watts is None or self.joules_per_frame is None or self.fps_per_watt is None:
            return f"unavailable: {self.reason}"
        return (
            f"{self.watts:.1f} W on average, {self.joules_per_frame:.3g} J a frame, "
            f"{self.fps_per_watt:.3g} frames/s per W ({self.covers})"
        )

    def figures(self) -> dict[str, Any]:
        """For JSON; null where unavailable."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


class EnergySink(Updatable):
    """Samples all sensors every ``PERIOD_S`` while it is open, and counts frames.

    A sink, as those are opened once the engine is built and closed after the last result. Any
    thread may ask.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Sequence[PowerSensor], str]] = find_sensors,
        *,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._find, self._clock_ns = find, clock_ns
        self._sensors: Sequence[PowerSensor] = ()
        self._reason = "not measured yet"
        self._covers = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rails: list[Mapping[str, float]] = []
        self._sampled_ns: int | None = None
        self._joules = self._seconds = 0.0
        self._frames = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Look for sensors, take the first sample and go on in a thread."""
        self._stop.clear()
        self._sensors, self._reason = self._find()
        self._covers = " + ".join(sensor.covers for sensor in self._sensors)
        self.sample()
        if self._sensors:
            self._thread = threading.Thread(target=self._run, name="power", daemon=True)
            self._thread.start()

    def emit(self, result: Result) -> None:
        self._frames += 1

    def close(self) -> None:
        """Stop, with a last sample."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(1.0)
            self.sample()

    def sample(self) -> None:
        """Read every sensor and add up; a sensor that goes away makes all unavailable."""
        if not self._sensors:
            return
        try:
            rails = [sensor.read() for sensor in self._sensors]
        except OSError as fault:
            with self._lock:
                self._sensors, self._reason = (), str(fault)
            self._stop.set()
            return
        now_ns = self._clock_ns()
        with self._lock:
            if self._sampled_ns is not None:
                span_s = (now_ns - self._sampled_ns) / 1e9
                self._joules += span_s * self._mean_watts(rails)
                self._seconds += span_s
            self._sampled_ns, self._rails = now_ns, rails

    def _mean_watts(self, rails: Sequence[Mapping[str, float]]) -> float:
        """Since the last sample: what an averaged sensor says, else between then and now."""
        watts = 0.0
        for sensor, then, now in zip(self._sensors, self._rails, rails, strict=True):
            total = sum(now.values())
            watts += total if sensor.averaged else (sum(then.values()) + total) / 2
        return watts

    def reading(self) -> PowerReading:
        """Now."""
        with self._lock:
            fresh = (
                self._sampled_ns is not None
                and self._clock_ns() - self._sampled_ns <= STALE_S * 1e9
                and all(self._rails)  # an averaged sensor has none at its first read
            )
            if not self._sensors or not fresh:
                reason = self._reason or "no sample yet"
                return PowerReading(None, reason=reason, covers=self._covers)
            rails = {name: watts for each in self._rails for name, watts in each.items()}
            return PowerReading(sum(rails.values()), rails, self._covers)

    def measured(self) -> tuple[float, float] | None:
        """(joules, seconds) since the start; None where it is not known for the whole of it."""
        with self._lock:
            known = bool(self._sensors) and self._seconds > 0
            return (self._joules, self._seconds) if known else None

    def energy(self) -> Energy:
        """Over the whole run."""
        reading, measured = self.reading(), self.measured()
        if measured is None or not self._frames:
            return Energy(reading.covers, reading.reason or "too short to measure")
        joules, seconds = measured
        if joules <= 0:
            return Energy(reading.covers, "the sensor counted nothing in so short a time")
        return Energy(
            *(reading.covers, "", joules, seconds, joules / seconds),
            *(joules / self._frames, self._frames / joules),
        )

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.sample()
