"""How does a slow output run without ever slowing the pipeline?"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from app.detections import Result
from app.errors import SinkError
from app.frame import SourceInfo
from app.interfaces import Sink, Updatable
from app.output_meter import OutputMeter

log = logging.getLogger(__name__)

CLOSE_S = 1.5  # less than the pipeline waits for its sinks


class Change(NamedTuple):
    """From here on results are of another source, or by another model."""

    source: SourceInfo
    labels: Sequence[str]


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
                self._meter.dropped("stopped", len(self._queue))
                self._queue.clear()
            raise SinkError(
                f"the output {self._meter.name!r} did not finish within {CLOSE_S:g} s of the end; "
                "check the disk that it writes to"
            )
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (result := self._next()) is not None:
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
            self._changed.wait_for(lambda: self._queue or self._closing)
            result = self._queue.popleft() if self._queue else None
            self._meter.waiting = len(self._queue)
            return result
