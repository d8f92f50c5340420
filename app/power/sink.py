"""What did a frame cost? Counts joules from the first frame to the last, without the start-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.detections import Result
from app.frame import SourceInfo
from app.power.meter import PowerMeter, PowerReading


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
        """For people."""
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


class EnergySink:
    """A sink, as those are opened once the engine is built and closed after the last result."""

    def __init__(self, meter: PowerMeter | None = None) -> None:
        self._meter = meter or PowerMeter()
        self._frames = 0
        self._opened = False

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Start to measure."""
        self._meter.__enter__()
        self._opened = True

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable: it is the machine that is measured."""

    def emit(self, result: Result) -> None:
        """Count."""
        self._frames += 1

    def close(self) -> None:
        """Stop."""
        if self._opened:
            self._meter.__exit__()
            self._opened = False

    def reading(self) -> PowerReading:
        """Watts now, for who shows them; any thread."""
        return self._meter.reading()

    def energy(self) -> Energy:
        """Over the whole run."""
        reading, measured = self._meter.reading(), self._meter.energy()
        if measured is None or not self._frames:
            return Energy(reading.covers, reading.reason or "too short to measure")
        joules, seconds = measured
        if joules <= 0:
            return Energy(reading.covers, "the sensor counted nothing in so short a time")
        return Energy(
            *(reading.covers, "", joules, seconds, joules / seconds),
            *(joules / self._frames, self._frames / joules),
        )
