"""What does a Jetson's board draw? (TI INA3221, three rails a chip, through sysfs)

Newer systems have it as hwmon (kernel.org, hwmon/ina3221: in1_input in mV, curr1_input in mA,
in4 to in6 are shunt voltages), JetPack 4 as iio (in_power0_input in mW).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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
