"""Which power sensors does this machine have?

A Jetson's INA3221 measures the board, and is taken alone. Elsewhere NVML tells the GPU's power and
RAPL the processors'; those that answer are added up, and what is covered is always told beside the
figure: neither sees memory, disks or the power supply's losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from app.power.ina3221 import find_ina3221
from app.power.nvml import find_nvml
from app.power.rapl import find_rapl


class PowerSensor(Protocol):
    """One source of watts. Opened by who makes it; read from one thread."""

    covers: str  # what the figure includes
    averaged: bool  # watts are the mean since the last read, not those of the moment

    def read(self) -> Mapping[str, float]:
        """Watts by rail, to be added up; empty at the first read of an averaged one.

        Raises OSError when the sensor has gone.
        """


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
