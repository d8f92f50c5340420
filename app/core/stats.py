"""Figures of a run and of its outputs, bounded in memory over months."""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic_ns

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .states import STATES, SourceStatus


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
        with self._lock:
            self._delivered += count

    def dropped(self, reason: str, count: int = 1) -> None:
        """Will never arrive."""
        if count:
            with self._lock:
                self._dropped[reason] += count

    def figures(self) -> OutputFigures:
        with self._lock:
            dropped = dict(self._dropped)
            return OutputFigures(self.name, self._delivered, dropped, self.waiting, self.trouble)


STALE_S = 2.0  # a rate that has seen nothing for so long, and longer than usual, is zero
RECENT_NS = 5_000_000_000
PERCENTILES = (50, 95, 99)  # those told of every age and stage
NO_FIGURES = (float("nan"), float("nan"), float("nan"))


def percentiles(values: ArrayLike, *percent: float) -> tuple[float, ...]:
    """Those of ``values`` at ``percent`` (0..100); NaN where there is no value yet.

    Between two values it is interpolated linearly (NumPy's default). The one statistics of ages
    and stage times: run, window, page, benchmarks and soak all ask here.
    """
    sample = np.asarray(values, np.float64)
    if not sample.size:
        return tuple(float("nan") for _ in percent)
    return tuple(float(v) for v in np.percentile(sample, percent))


class RecentValues:
    """The latest ``size`` values, in a ring. Not thread-safe."""

    def __init__(self, size: int = 65_536) -> None:
        self._ring = array("d")
        self._size = size
        self._next = 0

    def add(self, value: float) -> None:
        if len(self._ring) < self._size:
            self._ring.append(value)
        else:
            self._ring[self._next] = value
            self._next = (self._next + 1) % self._size

    def values(self) -> NDArray[np.float64]:
        return np.array(self._ring)


class Rate:
    """Events per second over the latest 120 ticks within RECENT_NS, zero when stale.

    Of the first tick only the time counts: (n − 1) / span.
    """

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, int]] = deque(maxlen=120)  # time, events
        self.count = 0
        self._first_ns = self._last_ns = 0

    def tick(self, now_ns: int, count: int = 1) -> None:
        """So many events happened since the last tick."""
        if not self.count:
            self._first_ns = now_ns
        self._last_ns = now_ns
        self.count += count
        self._ticks.append((now_ns, count))
        while len(self._ticks) > 2 and self._ticks[0][0] < now_ns - RECENT_NS:
            self._ticks.popleft()

    def recent(self, now_ns: int) -> float:
        """Over the window."""
        if len(self._ticks) < 2:
            return 0.0
        usual_ns = self._last_ns - self._ticks[-2][0]
        if now_ns - self._last_ns > max(STALE_S * 1e9, 1.5 * usual_ns):
            return 0.0
        events = sum(count for _, count in self._ticks) - self._ticks[0][1] + 1
        return _rate(events, self._ticks[0][0], self._last_ns)

    def overall(self) -> float:
        return _rate(self.count, self._first_ns, self._last_ns)


def _rate(count: int, first_ns: int, last_ns: int) -> float:
    return (count - 1) * 1e9 / (last_ns - first_ns) if last_ns > first_ns else 0.0


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """A snapshot. Ages and stages in ms as (p50, p95, p99); NaN before the first frame."""

    captured: int
    processed: int
    dropped: Mapping[str, int]
    capture_fps: float
    fps: float
    overall_fps: float
    age_ms: tuple[float, float, float]
    stages_ms: Mapping[str, tuple[float, float, float]]
    state: str  # states.State, or "building"
    since_s: float = 0.0  # of the state, since 1970
    cause: str = ""  # of the state
    events: Mapping[str, int] = field(default_factory=dict)  # "reconnects", "stalls", …
    # each source by its name, where there are several; stages are told for all together only
    sources: Mapping[str, PipelineStats] = field(default_factory=dict)

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(self.state, self.since_s, self.cause)


FOLDED = 64  # notes of stages are filed so many at once: on warm caches that costs a fraction
LANE_AGES = 4096  # kept of each of many sources


class Meter:
    """Takes the measurements of one run; any thread may write and read.

    ``total``: this is of one source among many, and what it takes is taken by ``total``, too, but
    for the stages, which the engine shares among all.
    """

    def __init__(self, total: Meter | None = None) -> None:
        self._lock = threading.Lock()
        self._total = total
        self._lanes: list[Meter] = []
        self._captured, self._processed = Rate(), Rate()
        self._skipped = 0
        self._dropped: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._age = RecentValues() if total is None else RecentValues(LANE_AGES)
        self._stages: dict[str, RecentValues] = {}
        self._fresh: list[Mapping[str, int]] = []  # stages that are not filed yet
        self._status = SourceStatus().then("opening")

    def lane(self) -> Meter:
        lane = Meter(self)
        self._lanes = [*self._lanes, lane]
        return lane

    def without(self, lane: Meter) -> None:
        """That source is gone; what it has counted stays."""
        self._lanes = [each for each in self._lanes if each is not lane]

    @property
    def status(self) -> SourceStatus:
        if not self._lanes or self._status.state == "failed":
            return self._status
        return min((lane.status for lane in self._lanes), key=lambda s: STATES.index(s.state))

    @property
    def state(self) -> str:
        return self.status.state

    @state.setter
    def state(self, state: str) -> None:
        self.state_changed(state, "")

    def captured(self, read_ns: int, still: int = 0) -> None:
        """A frame came out of the source, after ``still`` ones in which nothing moved.

        ``read_ns`` is how long reading it took.
        """
        now_ns = monotonic_ns()
        with self._lock:
            self._captured.tick(now_ns, 1 + still)
            if still:
                self._dropped["still"] += still
            self._took({"read": read_ns})
        if self._total is not None:
            self._total.captured(read_ns, still)

    def skipped(self, count: int) -> None:
        """The source itself passed over frames: nobody read them in time."""
        with self._lock:
            self._skipped += count
            self._dropped["skipped"] += count
        if self._total is not None:
            self._total.skipped(count)

    def dropped(self, reason: str) -> None:
        """A captured frame will never be processed."""
        with self._lock:
            self._dropped[reason] += 1
        if self._total is not None:
            self._total.dropped(reason)

    def noticed(self, event: str) -> None:
        """Something to be counted happened to the source or the run."""
        with self._lock:
            self._events[event] += 1
        if self._total is not None:
            self._total.noticed(event)

    def state_changed(self, state: str, why: str) -> None:
        self._status = self._status.then(state, why)

    def processed(self, age_ns: int, stages_ns: Mapping[str, int]) -> None:
        """A result is about to leave the pipeline."""
        with self._lock:
            self._processed.tick(monotonic_ns())
            self._age.add(age_ns / 1e6)
            self._took(stages_ns)
        if self._total is not None:
            self._total.processed(age_ns, stages_ns)

    def emitted(self, sinks_ns: int) -> None:
        with self._lock:
            self._took({"sinks": sinks_ns})

    def snapshot(self) -> PipelineStats:
        with self._lock:  # copies only: sorting takes long, and the pipeline waits for the lock
            self._file()
            ages = self._age.values()
            stages = {name: kept.values() for name, kept in self._stages.items()}
        return replace(
            self.counts(),
            age_ms=_triple(ages),
            stages_ms={name: _triple(values) for name, values in stages.items()},
        )

    def counts(self) -> PipelineStats:
        """Counts and rates alone: cheap enough to be asked several times a second."""
        now_ns, status = monotonic_ns(), self.status
        with self._lock:
            return PipelineStats(
                captured=self._captured.count + self._skipped,
                processed=self._processed.count,
                dropped=dict(self._dropped),
                capture_fps=self._captured.recent(now_ns),
                fps=self._processed.recent(now_ns),
                overall_fps=self._processed.overall(),
                age_ms=NO_FIGURES,
                stages_ms={},
                state=status.state,
                since_s=status.since_s,
                cause=status.cause,
                events=dict(self._events),
            )

    def _took(self, stages_ns: Mapping[str, int]) -> None:
        if self._total is not None:
            return
        self._fresh.append(stages_ns)
        if len(self._fresh) >= FOLDED:
            self._file()

    def _file(self) -> None:
        for stages_ns in self._fresh:
            for name, value_ns in stages_ns.items():
                kept = self._stages.get(name)
                if kept is None:
                    kept = self._stages[name] = RecentValues()
                kept.add(value_ns / 1e6)
        self._fresh.clear()


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    p50, p95, p99 = percentiles(values, *PERCENTILES)
    return p50, p95, p99
