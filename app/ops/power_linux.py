"""Power sensors of Linux: a Jetson's INA3221, RAPL of Intel and AMD.

Newer systems have it as hwmon (kernel.org, hwmon/ina3221: in1_input in mV, curr1_input in mA,
in4 to in6 are shunt voltages), JetPack 4 as iio (in_power0_input in mW).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # rails from which all others are fed
CHANNELS = (1, 2, 3)


class Rail(NamedTuple):
    """Files whose product, times ``scale``, is watts."""

    name: str
    files: tuple[Path, ...]
    scale: float

    def watts(self) -> float:
        """Now; raises OSError."""
        product = self.scale
        for file in self.files:
            try:
                product *= int(file.read_text())
            except ValueError as fault:
                raise OSError(f"{file} holds no number") from fault
        return product


class Ina3221:
    """The rail that feeds the board, or, where there is none, all rails."""

    averaged = False

    def __init__(self, rails: Sequence[Rail]) -> None:
        feeding = [rail for rail in rails if rail.name in WHOLE_BOARD]
        self._rails = feeding or list(rails)
        names = ", ".join(rail.name for rail in self._rails)
        self.covers = f"whole board ({names})" if feeding else f"sum of the rails {names}"

    def read(self) -> Mapping[str, float]:
        """See PowerSensor."""
        return {rail.name: rail.watts() for rail in self._rails}


def find_ina3221(root: Path = Path("/")) -> tuple[Ina3221 | None, str]:
    """The sensor, or why there is none that can be read."""
    rails = [*_hwmon(root), *_iio(root)]
    try:
        for rail in rails:
            rail.watts()
    except OSError as fault:
        return None, f"INA3221 cannot be read: {fault.strerror or fault}"
    return (Ina3221(rails), "") if rails else (None, "")


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

    covers = "CPU packages"
    averaged = True

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
        """See PowerSensor."""
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
) -> tuple[Rapl | None, str]:
    """The sensor, or why there is none that can be read."""
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
        return rapl, ""
    except PermissionError:
        return None, f"the processors' energy counters are closed to this user: {CURE}"
    except (OSError, ValueError) as fault:
        return None, f"RAPL cannot be read: {fault}"


def _read(file: Path) -> str:
    return file.read_text().strip()
