"""What has become of all that was handed to an output?"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """A snapshot. ``trouble`` says what is wrong at the moment, "" if nothing is."""

    name: str
    delivered: int
    dropped: dict[str, int]
    waiting: int
    trouble: str


class OutputMeter:
    """Counts of one output; any thread may write and read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._delivered = 0
        self._dropped: Counter[str] = Counter()
        self.waiting = 0
        self.trouble = ""

    def delivered(self, count: int = 1) -> None:
        """Arrived where it was to go."""
        with self._lock:
            self._delivered += count

    def dropped(self, reason: str, count: int = 1) -> None:
        """Will never arrive."""
        if count:
            with self._lock:
                self._dropped[reason] += count

    def figures(self) -> OutputFigures:
        """All of it at this moment."""
        with self._lock:
            dropped = dict(self._dropped)
            return OutputFigures(self.name, self._delivered, dropped, self.waiting, self.trouble)
