"""How quick was the run in the last few seconds?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from time import monotonic_ns

import numpy as np

from app.detections import Result
from app.frame import SourceInfo

SPAN_NS = 3_000_000_000


class RecentSink:
    """Keeps the ages and stage times of the results of the last 3 s; any thread may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: deque[tuple[int, int, Mapping[str, int]]] = deque(maxlen=2000)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Another source or model: what was measured before says nothing of it."""
        with self._lock:
            self._kept.clear()

    def emit(self, result: Result) -> None:
        """Note one result."""
        now_ns = monotonic_ns()
        with self._lock:
            self._kept.append((now_ns, result.age_ns, result.stages_ns))
            while now_ns - self._kept[0][0] > SPAN_NS:
                self._kept.popleft()

    def close(self) -> None:
        """Nothing to finish."""

    def ages_ms(self) -> tuple[float, float]:
        """(p50, p95); NaN where there is nothing recent."""
        kept = self._recent()
        if not kept:
            return float("nan"), float("nan")
        p50, p95 = np.percentile([age_ns / 1e6 for _, age_ns, _ in kept], (50, 95))
        return float(p50), float(p95)

    def stages_ms(self) -> dict[str, float]:
        """Median of each stage, in the order in which a frame passes them."""
        times: dict[str, list[int]] = {}
        for _, _, stages_ns in self._recent():
            for name, value_ns in stages_ns.items():
                times.setdefault(name, []).append(value_ns)
        return {name: float(np.median(values)) / 1e6 for name, values in times.items()}

    def _recent(self) -> list[tuple[int, int, Mapping[str, int]]]:
        since_ns = monotonic_ns() - SPAN_NS
        with self._lock:
            return [each for each in self._kept if each[0] >= since_ns]
