"""Outputs that outlive the pipelines which feed them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

from ..core.detections import Result
from ..core.errors import KestrelError
from ..core.frame import SourceInfo
from ..core.interfaces import Sink, Updatable
from .state import Severity

log = logging.getLogger(__name__)


class KeptSink:
    """An output that was asked for on the command line; it stays open as engines come and go.

    Each pipeline opens and closes its sinks. The output itself is opened once; of a new source or
    model it is told, if it can go on with them, else it is closed and opened again. A fault closes
    it and is told and kept in ``error``; the window goes on.
    """

    def __init__(
        self, inner: Sink, on_error: Callable[[KestrelError], None] = lambda error: None
    ) -> None:
        self._inner, self._on_error = inner, on_error
        self._is_open = False
        self.error: KestrelError | None = None

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """The first time, or what is new."""
        if self.error is not None:
            return
        try:
            if self._is_open and isinstance(self._inner, Updatable):
                self._inner.update(source, labels)
                return
            if self._is_open:
                self._inner.close()
            self._is_open = True
            self._inner.open(source, labels)
        except KestrelError as error:
            self._failed(error)

    def emit(self, result: Result) -> None:
        """Pass it on; ReaderGone passes, too, and ends the run."""
        if self.error is not None:
            return
        try:
            self._inner.emit(result)
        except KestrelError as error:
            self._failed(error)

    def close(self) -> None:
        """One pipeline has ended: stays open for the next."""

    def finish(self) -> None:
        """The run is over."""
        if self._is_open and self.error is None:
            try:
                self._inner.close()
            except KestrelError as error:
                self._failed(error)
        self._is_open = False

    def _failed(self, error: KestrelError) -> None:
        self.error = error
        try:
            self._inner.close()
        except KestrelError as later:
            log.debug("after the first error: %s", later)
        self._on_error(error)


class RecordingSink:
    """Records what the window shows, from when it is switched on until it is switched off.

    ``follow`` opens and closes the file, on the session's thread; ``emit`` writes to it. A fault
    ends the recording and is told; the run goes on.
    """

    def __init__(self, make: Callable[[str], Sink], tell: Callable[[str, Severity], None]) -> None:
        self._make, self._tell = make, tell
        self._lock = Lock()  # of the open file; held while a frame is written
        self._sink: Sink | None = None
        self._path = ""
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self.wanted = ""
        self.hidden: frozenset[str] = frozenset()

    def switch(self, path: str) -> None:
        """Record there, or, with "", stop; returns at once."""
        self.wanted = path

    def follow(self) -> None:
        """Do what ``switch`` asked for; a recording begins once there is something to record."""
        wanted = self.wanted
        if wanted == self._path or (wanted and self._source is None):
            return
        try:
            with self._lock:
                self._end()
                if wanted:
                    self._begin(wanted)
        except (KestrelError, OSError) as error:
            self._failed(error)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Sink. Another model or source ends no recording."""
        with self._lock:
            self._source, self._labels = source, labels
            sink: object = self._sink
            if isinstance(sink, Updatable):
                sink.update(source, labels)

    def emit(self, result: Result) -> None:
        """Write it, if something is being recorded."""
        try:
            with self._lock:
                if self._sink is not None:
                    found = result.detections.without(self._labels, self.hidden)
                    # captured_ns rises always; a position in a clip falls when one moves back
                    frame = replace(result.frame, media_ns=None)
                    self._sink.emit(replace(result, frame=frame, detections=found))
        except KestrelError as error:
            self._failed(error)

    def close(self) -> None:
        """One pipeline has ended: the recording goes on with the next."""

    def finish(self) -> None:
        """The run is over."""
        self.wanted = ""
        self.follow()

    def _end(self) -> None:
        path, self._path = self._path, ""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
            self._tell(f"Recorded {path}", "info")

    def _begin(self, path: str) -> None:
        assert self._source is not None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sink = self._make(path)
        sink.open(self._source, self._labels)
        self._sink, self._path = sink, path

    def _failed(self, error: Exception) -> None:
        self._sink, self.wanted, self._path = None, "", ""
        self._tell(" ".join(str(error).split()), "error")


class Outlets:
    """One sink for a pipeline, in place of many. They are opened again when the source changes."""

    def __init__(self, sinks: Sequence[Sink], info_of: Callable[[int], SourceInfo]) -> None:
        self._sinks, self._info_of = sinks, info_of
        self._info: SourceInfo | None = None
        self._labels: Sequence[str] = ()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Tell all of them."""
        self._info, self._labels = source, labels
        for sink in self._sinks:
            sink.open(source, labels)

    def emit(self, result: Result) -> None:
        """Pass it on."""
        info = self._info_of(result.frame.index)
        if info is not self._info:
            self.open(info, self._labels)
        for sink in self._sinks:
            sink.emit(result)

    def close(self) -> None:
        """See interfaces.Sink."""
        for sink in reversed(self._sinks):
            sink.close()
