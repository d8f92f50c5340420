"""What a peer answers: how fast it went over the clip, and every box that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns, process_time_ns
from typing import Any, NamedTuple


class NotHere(Exception):
    """A peer cannot run on this machine; the reason goes into the report."""


class Box(NamedTuple):
    """One detection in source pixels."""

    class_id: int
    score: float
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Run:
    """One run over the clip. ``frames``: the boxes of each frame, in order.

    ``fps`` is (frames − 1) / (last result − first result), so no start-up is in it; ``cpu_ms`` is
    the CPU time of the whole process a frame in the same span. ``detail``: what one should know.
    """

    fps: float
    cpu_ms: float
    frames: Sequence[Sequence[Box]]
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Run:
        frames = [[Box(*box) for box in frame] for frame in data["frames"]]
        return cls(data["fps"], data["cpu_ms"], frames, data["detail"])


class Clock:
    """Wall and CPU time between the first result and the last; ``tick`` from one thread."""

    def __init__(self) -> None:
        self.count = 0
        self._first = self._last = (0, 0)

    def tick(self) -> None:
        """A frame's boxes are there."""
        self._last = perf_counter_ns(), process_time_ns()
        if not self.count:
            self._first = self._last
        self.count += 1

    def run(self, frames: Sequence[Sequence[Box]], **detail: Any) -> Run:
        """The answer; two frames are the least that tell a rate."""
        if self.count < 2:
            raise NotHere(f"the clip gave {self.count} frames; two are the least")
        wall_ns, cpu_ns = (b - a for a, b in zip(self._first, self._last, strict=True))
        steps = self.count - 1
        return Run(steps * 1e9 / wall_ns, cpu_ns / steps / 1e6, frames, detail)
