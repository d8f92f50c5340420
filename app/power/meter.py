"""How many watts are drawn now, and how many joules since the start? A thread that samples."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic_ns

from app.power.sensors import PowerSensor, find_sensors

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


class PowerMeter:
    """Samples all sensors every ``PERIOD_S``; a context manager. Any thread may ask."""

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

    def __enter__(self) -> PowerMeter:
        self.open()
        if self._sensors:
            self._thread = threading.Thread(target=self._run, name="power", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self.sample()
            self._thread = None

    def open(self) -> None:
        """Look for sensors and take the first sample."""
        self._sensors, self._reason = self._find()
        self._covers = " + ".join(sensor.covers for sensor in self._sensors)
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

    def energy(self) -> tuple[float, float] | None:
        """(joules, seconds) since the start; None where it is not known for the whole of it."""
        with self._lock:
            known = bool(self._sensors) and self._seconds > 0
            return (self._joules, self._seconds) if known else None

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.sample()
