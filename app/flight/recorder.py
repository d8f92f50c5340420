"""The flight recorder: what is kept of a run, always, within bounds?

Notes are taken on the threads that decide, into memory. The newest go into a file of their own when
a run ends by an error; with ``--trace FILE`` all go there, written by a thread of the recorder's.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic_ns
from typing import Any

from app import __version__
from app.detections import Detections, Result
from app.errors import KestrelError, SinkError
from app.flight.trace_file import Event, TraceWriter
from app.frame import SourceInfo

log = logging.getLogger(__name__)

KEPT = 10_000  # events in memory: a minute or more, a few megabytes
PERIOD_S = 0.5


class FlightRecorder:
    """A sink for the results and a ``Note`` for the decisions; a context manager around the run."""

    def __init__(
        self,
        path: Path | None,
        header: Mapping[str, Any],
        *,
        last_words: Path,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._path, self._clock_ns, self._last_words = path, clock_ns, last_words
        self._header = {
            "kestrel": __version__,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "time_ns": clock_ns(),
            **header,
        }
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._unwritten: deque[Event] = deque(maxlen=KEPT)  # a disk that hangs costs events
        self._writer: TraceWriter | None = None
        self._state: Callable[[], str] = lambda: ""
        self._last_state = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, state: Callable[[], str]) -> None:
        """Where the state is asked; before it is entered."""
        self._state = state

    def __enter__(self) -> FlightRecorder:
        if self._path is not None:  # an unwritable file is told at once
            self._writer = TraceWriter(self._path, self._header)
        self._thread = threading.Thread(target=self._run, name="flight", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            if not self._thread.is_alive():
                self._write()
        if self._writer is not None:
            self._writer.close()

    def note(self, kind: str, index: int, time_ns: int) -> None:
        """See handoff.Note; any thread."""
        if kind == "put":
            self._add(kind, self._clock_ns(), index, time_ns)
        else:
            self._add(kind, time_ns or self._clock_ns(), index)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def emit(self, result: Result) -> None:
        """Keep times and boxes; they are spelt out where they are written, off this thread."""
        now_ns, index = self._clock_ns(), result.frame.index
        stages_ns = dict(result.stages_ns)
        self._add("result", now_ns, index, result.age_ns, stages_ns, result.detections)

    def close(self) -> None:
        """The rest is written when it is left."""

    def error(self, error: BaseException) -> None:
        """The run ended by it: write down what is kept, if no file has it and frames had come."""
        self._add("error", self._clock_ns(), -1, str(error))
        if self._path is not None or not any(event[0] == "put" for event in self._kept):
            return
        try:
            self._last_words.parent.mkdir(parents=True, exist_ok=True)
            part = self._last_words.with_name(f"{self._last_words.name}.{os.getpid()}.part")
            writer = TraceWriter(part, self._header, segment_bytes=sys.maxsize)
            writer.write(map(_spelt_out, list(self._kept)))
            writer.close()
            part.replace(self._last_words)  # never half of it, or two processes' in one
        except (SinkError, OSError) as fault:
            log.debug("the flight recorder could not be saved: %s", fault)
        else:
            log.info("the flight recorder's last %d events: %s", len(self._kept), self._last_words)

    def _add(self, *event: Any) -> None:
        self._kept.append(event)
        if self._path is not None:
            self._unwritten.append(event)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            state = self._state()
            if state != self._last_state:
                self._last_state = state
                self._add("state", self._clock_ns(), -1, state)
            self._write()

    def _write(self) -> None:
        """A full disk ends the recording, not the run."""
        events = [_spelt_out(self._unwritten.popleft()) for _ in range(len(self._unwritten))]
        if self._writer is None or not events:
            return
        try:
            self._writer.write(events)
        except KestrelError as fault:
            log.warning("%s; nothing more is traced", fault)
            self._writer.close()
            self._writer = None


def _spelt_out(event: Event) -> Event:
    """As it stands in the file."""
    if event[0] != "result":
        return event
    found: Detections = event[5]
    boxes = [
        [class_id, round(score, 4), *(round(value, 2) for value in box)]
        for class_id, score, box in zip(
            found.class_ids.tolist(), found.scores.tolist(), found.xyxy.tolist(), strict=True
        )
    ]
    return (*event[:5], boxes)
