"""Sinks for the run itself: mailbox, ages, a queue before a slow output, one for many sources."""

from __future__ import annotations

import logging
import math
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from threading import Lock
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Result
from ..core.errors import ReaderGone, SinkError
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.interfaces import Sink, TakesEvents, Updatable
from ..core.stats import OutputMeter, PipelineStats

log = logging.getLogger(__name__)


def instruments(stats: PipelineStats, outputs: Sequence[OutputMeter]) -> dict[str, Any]:
    """Rates per second, times in ms as [p50, p95, p99], null where there is no figure yet."""
    return {
        "state": stats.state,
        "since": stats.status.since,
        "cause": stats.cause,
        "fps": round(stats.fps, 2),
        "capture_fps": round(stats.capture_fps, 2),
        "captured": stats.captured,
        "processed": stats.processed,
        "dropped": dict(stats.dropped),
        "age_ms": _rounded(stats.age_ms),
        "stages_ms": {name: _rounded(values) for name, values in stats.stages_ms.items()},
        "outputs": [asdict(meter.figures()) for meter in outputs],
    }


def _rounded(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 2) for value in values]


MOST_EVENTS = 1000  # that are kept for a slow reader, the newest


class ResultMailbox(Sink):
    """A place for one result: a new one replaces an old one, or, ``lossless``, waits for its turn.

    ``open`` and ``emit`` are called on the pipeline thread, everything else on any thread.
    """

    def __init__(self, *, lossless: bool = False) -> None:
        self._lossless = lossless
        self._changed = threading.Condition()
        self._waiting: Result | None = None
        self._left = False
        self.labels: Sequence[str] = ()
        self.count = 0  # results that have come in
        self.unread = 0  # results that a newer one replaced

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """From here on results are of these classes; an older one that waits is let go."""
        with self._changed:
            self.labels, self._waiting = labels, None

    def emit(self, result: Result) -> None:
        """Put it there; where nothing may be lost, wait until the one before is taken."""
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: self._left or self._waiting is None)
            if self._left:
                raise ReaderGone("nobody reads the stream any more")
            self.count += 1
            if self._waiting is not None:
                self.unread += 1
                if self._waiting.events:  # are of every frame, read or not
                    events = [*self._waiting.events, *result.events]
                    result = replace(result, events=events[-MOST_EVENTS:])
            self._waiting = result
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> Result | None:
        """The result that waits, once; None if none came in time."""
        taken = self.take_labelled(timeout_s)
        return None if taken is None else taken[0]

    def take_labelled(self, timeout_s: float = 0.0) -> tuple[Result, Sequence[str]] | None:
        """``take``, with the labels of the model that the result is from."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None, timeout_s)
            result, self._waiting = self._waiting, None
            self._changed.notify_all()
            return None if result is None else (result, self.labels)

    def leave(self) -> None:
        """The reader has gone: the next ``emit`` raises ReaderGone."""
        with self._changed:
            self._left = True
            self._changed.notify_all()


class AgeSink(Sink):
    """Every age in order, in milliseconds; any thread may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ages_ms = array("d")

    def emit(self, result: Result) -> None:
        with self._lock:
            self._ages_ms.append(result.age_ns / 1e6)

    def take(self) -> NDArray[np.float64]:
        """The ages since it was last asked, (N,) float64."""
        with self._lock:
            ages_ms, self._ages_ms = self._ages_ms, array("d")
        return np.array(ages_ms)


IDLE_S = 1.0
CLOSE_S = 1.5  # less than the pipeline waits for its sinks


class Change(NamedTuple):
    """From here on results are of another source, or by another model."""

    source: SourceInfo
    labels: Sequence[str]


@runtime_checkable
class Idles(Protocol):
    """A sink to which more comes than results."""

    def idle(self) -> None:
        """No result has come for IDLE_S."""


class QueuedSink:
    """Another sink on a thread of its own, behind a bounded queue.

    When the queue is full the new frame is dropped for this output and counted. A fault of the
    sink is raised again by the next ``emit``, or by ``close``.
    """

    def __init__(self, sink: Sink, meter: OutputMeter, *, capacity: int = 8) -> None:
        self._sink, self._meter, self._capacity = sink, meter, capacity
        self._queue: deque[Result | Change] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open the sink here, so that its faults are told at once; then start the thread."""
        self._sink.open(source, labels)
        self._closing = False
        name = f"output-{self._meter.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable; in turn with the results, and never dropped."""
        with self._changed:
            self._queue.append(Change(source, labels))
            self._changed.notify()

    def emit(self, result: Result) -> None:
        """Hand over, or drop; never waits."""
        if self._error is not None:
            raise self._error
        with self._changed:
            if len(self._queue) >= self._capacity:
                self._meter.dropped("queue full")
                return
            self._queue.append(result)
            self._meter.waiting = len(self._queue)
            self._changed.notify()

    def close(self) -> None:
        """Give what waits a little time, then let go; raises the sink's error."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        thread.join(CLOSE_S)
        if thread.is_alive():
            with self._changed:
                behind = len(self._queue)
                self._meter.dropped("stopped", behind)
                self._queue.clear()
            left = f"{behind} results behind, which it lacks" if behind else "at its last result"
            raise SinkError(
                f"the output {self._meter.name!r} was not done {CLOSE_S:g} s after the end, still "
                f"{left}: its disk, or this machine's processor, does not keep up"
            )
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while True:
                result = self._next()
                if result is None:
                    if self._closing and not self._queue:
                        break
                    if isinstance(self._sink, Idles):
                        self._sink.idle()
                    continue
                if isinstance(result, Change):
                    self._follow(result)
                    continue
                self._sink.emit(result)
                self._meter.delivered()
                del result  # or its frame would be held until the next one comes
        except BaseException as error:
            self._error = error
        try:
            self._sink.close()
        except BaseException as error:
            self._error = self._error or error

    def _follow(self, change: Change) -> None:
        """The sink goes on with another source or model, or begins anew."""
        sink: object = self._sink
        if isinstance(sink, Updatable):
            sink.update(change.source, change.labels)
        else:
            self._sink.close()
            self._sink.open(change.source, change.labels)

    def _next(self) -> Result | Change | None:
        with self._changed:
            idle_s = IDLE_S if isinstance(self._sink, Idles) else None
            self._changed.wait_for(lambda: self._queue or self._closing, idle_s)
            result = self._queue.popleft() if self._queue else None
            self._meter.waiting = len(self._queue)
            return result


class Shared:
    """Opens the sink with the first source and closes it with the last; pipeline thread only.

    For sinks to which it makes no difference whose result it is.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink, self._users = sink, 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._users += 1
        if self._users == 1:
            self._sink.open(source, labels)

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        if isinstance(self._sink, Updatable):
            self._sink.update(source, labels)

    def emit(self, result: Result) -> None:
        self._sink.emit(result)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        if isinstance(self._sink, TakesEvents):
            self._sink.happened(events, fired)

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._sink.close()
