"""A recording that is switched on and off while the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

from ..core.detections import Result
from ..core.errors import KestrelError
from ..core.frame import SourceInfo
from ..core.interfaces import Sink, Updatable
from .state import Tell


class RecordingSink:
    """Records what the window shows, from when it is switched on until it is switched off.

    ``follow`` opens and closes the file, on the session's thread; ``emit`` writes to it. A fault
    ends the recording and is told; the run goes on.
    """

    def __init__(self, make: Callable[[str], Sink], tell: Tell) -> None:
        self._make, self._tell = make, tell
        self._lock = Lock()  # of the open file; held while a frame is written
        self._sink: Sink | None = None
        self._path = ""
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self.wanted = ""
        self._closed = False
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
                if wanted and not self._closed:
                    self._begin(wanted)
        except (KestrelError, OSError) as error:
            self._failed(error)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._closed = False
        self.update(source, labels)

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable. Another model or source ends no recording."""
        with self._lock:
            self._source, self._labels = source, labels
            sink: object = self._sink
            if isinstance(sink, Updatable):
                sink.update(source, labels)

    def emit(self, result: Result) -> None:
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
        """The run is over; what is asked for from now on begins no file."""
        with self._lock:
            self.wanted, self._closed = "", True
        self.follow()

    def _end(self) -> None:
        path, self._path = self._path, ""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()
            self._tell(f"Recorded {path}", "info", path)

    def _begin(self, path: str) -> None:
        assert self._source is not None
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        sink = self._make(path)
        try:
            sink.open(self._source, self._labels)
        except BaseException:
            sink.close()
            raise
        self._sink, self._path = sink, path

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._sink, self.wanted, self._path = None, "", ""
        self._tell(" ".join(str(error).split()), "error", "")
