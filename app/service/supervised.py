"""When is the supervisor told that all is well? Only when results come.

READY=1 after the first result; WATCHDOG=1 only if something was inferred since the last one: a
source that hangs, an engine that hangs and an output that hangs all end in a restart. While a
source is away the canary's inferences show that the engine is well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from app.detections import Result
from app.frame import SourceInfo
from app.service.notify import Notifier
from app.stats import PipelineStats

TICK_S = 1.0
STATUS_S = 5.0
BUILDING_S = 1800.0  # TensorRT builds for minutes; longer than this is a hang
EXTENSION = "EXTEND_TIMEOUT_USEC=30000000"


class Supervised:
    """A sink, and a context manager whose thread tells; silent where nobody listens."""

    def __init__(
        self,
        notifier: Notifier,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._notifier, self._clock = notifier, clock
        self._stats: Callable[[], PipelineStats] | None = None
        self._results = self._inferences = self._fed = 0  # each written by one thread only
        self._ready = False
        self._started_s = self._fed_s = clock()
        self._told_s = float("-inf")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, stats: Callable[[], PipelineStats]) -> None:
        """Where the figures of STATUS= come from; before it is entered."""
        self._stats = stats

    def __enter__(self) -> Supervised:
        if self._notifier.listening:
            self._thread = threading.Thread(target=self._run, name="supervised", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TICK_S)
        self._notifier.close()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing is known yet."""

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""

    def emit(self, result: Result) -> None:
        """A result has come."""
        self._results += 1
        self._inferences += 1

    def inferred(self) -> None:
        """The engine has worked, though for no result; on the pipeline thread as ``emit``."""
        self._inferences += 1

    def close(self) -> None:
        """The run ends."""
        self._notifier.send("STOPPING=1", "STATUS=stopping")

    def reloading(self, apply: Callable[[], None]) -> None:
        """Tell, ``apply``, and tell that it is done; before it is ready only ``apply``."""
        if not self._ready:
            apply()
            return
        self._notifier.reloading()
        try:
            apply()
        finally:
            self._notifier.send("READY=1")

    def tick(self) -> None:
        """Tell what there is to tell."""
        now_s = self._clock()
        status_due = now_s - self._told_s >= STATUS_S
        # percentiles over an hour's frames take milliseconds: not every second
        wanted = self._stats is not None and (status_due or not self._ready)
        stats = self._stats() if wanted and self._stats is not None else None
        if not self._ready and self._results:
            self._ready = True
            self._notifier.send("READY=1")
        building = not self._ready and stats is not None and stats.state == "building"
        if building and now_s - self._started_s < BUILDING_S:
            self._notifier.send(EXTENSION)
        self._feed(now_s)
        if stats is not None and status_due:
            self._told_s = now_s
            self._notifier.send(f"STATUS={status_line(stats)}")

    def _feed(self, now_s: float) -> None:
        watchdog_s, inferences = self._notifier.watchdog_s, self._inferences
        if watchdog_s is None or inferences == self._fed or now_s - self._fed_s < watchdog_s / 2:
            return
        self._fed, self._fed_s = inferences, now_s
        self._notifier.send("WATCHDOG=1")

    def _run(self) -> None:
        period_s = min(TICK_S, (self._notifier.watchdog_s or TICK_S) / 8)
        while not self._stop.wait(period_s):
            self.tick()


def status_line(stats: PipelineStats) -> str:
    """For `systemctl status`."""
    dropped = sum(stats.dropped.values())
    if not stats.processed:
        return f"{stats.state}, no result yet"
    return (
        f"{stats.state}: {stats.fps:.1f} FPS, age {stats.age_ms[0]:.0f} ms, "
        f"{stats.processed} processed, {dropped} dropped"
    )
