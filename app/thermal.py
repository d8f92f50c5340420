"""Does this device throttle because it is hot? (Linux sysfs, where it tells)"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

log = logging.getLogger(__name__)

LOOK_NS = 5_000_000_000  # some sensors take a millisecond to answer
SYSFS = Path("/sys")


class Thermal:
    """Call it: why the device is throttled, or None. At most one look in five seconds."""

    def __init__(self, sysfs: Path = SYSFS, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self._now_ns = now_ns
        # Intel counts how often it throttled; everything else has zones with trip points
        self._counters = sorted(
            sysfs.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
        )
        self._count = self._throttles()
        self._trips = [
            (zone / "temp", trip.with_name(trip.name.replace("_type", "_temp")))
            for zone in sorted(sysfs.glob("class/thermal/thermal_zone*"))
            for trip in sorted(zone.glob("trip_point_*_type"))
            if _word(trip) in ("passive", "hot")
        ]
        self._looked_ns = now_ns() - LOOK_NS
        self._answer: str | None = None

    def __call__(self) -> str | None:
        """One line for the log, or None where nothing throttles or nothing can tell."""
        now_ns = self._now_ns()
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._answer = self._look()
        return self._answer

    def _look(self) -> str | None:
        before, self._count = self._count, self._throttles()
        if self._count > before:
            return "the processor throttles"
        for sensor, trip in self._trips:
            temperature, limit = _number(sensor), _number(trip)
            if limit > 0 and temperature >= limit:
                return f"the device throttles at {temperature / 1000:.0f} °C"
        return None

    def _throttles(self) -> int:
        return sum(_number(counter) for counter in self._counters)


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a sensor that is off
        return ""


def _number(path: Path) -> int:
    text = _word(path)
    return int(text) if text.lstrip("-").isdigit() else 0
