"""Clips: a short recording of each event, from some seconds before it to some after.

Frames wait as JPEG in memory, so that a clip begins before its event.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import ClipOptions
from ..core.detections import Result
from ..core.errors import SinkError
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import Sink
from ..core.stats import OutputMeter
from .events import Notice
from .rotating import Budget, make_folder
from .video import VideoFileSink, encode_jpeg

log = logging.getLogger(__name__)

CATCH_UP = 3  # pictures written a frame: what came before is written beside what comes now
QUALITY = 90


@dataclass(frozen=True, slots=True)
class _Kept:
    """A frame as it waits: its picture as JPEG, all else as it came."""

    jpeg: NDArray[np.uint8]
    result: Result  # without pixels
    time_ns: int


class ClipSink:
    """A video from ``before_s`` before something appears to ``after_s`` after it has gone.

    Of a moment, which a rule chose, the clip goes to ``after_s`` after it.

    Frames wait as JPEG in a ring that is bounded in time and bytes. ``notice`` takes events on any
    thread; all else runs on the thread of the queue that this sink is behind.
    """

    def __init__(
        self,
        options: ClipOptions,
        meter: OutputMeter,
        *,
        make: Callable[[Path], Sink] = VideoFileSink,
    ) -> None:
        self._options, self._meter, self._make = options, meter, make
        self._budget = Budget.of(options, "clip")
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._events: deque[Notice] = deque()
        self._in_view: set[str] = set()
        self._ring: deque[_Kept] = deque()
        self._ring_bytes = 0
        self._file: Sink | None = None
        self._path = Path()
        self._until_ns: int | None = None  # None: while something is in view
        self._began_ns = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder; raises SinkError."""
        self._source, self._labels = source, labels
        make_folder(self._budget.folder)
        self._budget.enforce()

    def notice(self, event: Notice) -> None:
        """Something appeared or is gone."""
        self._events.append(event)

    def emit(self, result: Result) -> None:
        """Keep the frame; begin, go on with or end a clip."""
        kept = _keep(result)
        self._ring.append(kept)
        self._ring_bytes += kept.jpeg.nbytes
        while self._events:
            self._follow(self._events.popleft(), kept.time_ns)
        if self._file is None:
            self._shorten(kept.time_ns)
            return
        self._write(CATCH_UP)
        longest_ns = self._began_ns + int(self._options.max_s * 1e9)
        until_ns = longest_ns if self._until_ns is None else min(self._until_ns, longest_ns)
        if kept.time_ns >= until_ns or kept.time_ns < self._began_ns:  # or a looped clip restarts
            self._end()

    def close(self) -> None:
        """End a clip that is under way with all that belongs to it."""
        if self._file is not None:
            self._end()

    def _follow(self, event: Notice, now_ns: int) -> None:
        if event.kind == "other":
            return
        if event.kind == "appear":
            self._in_view.add(event.subject)
        elif event.kind == "disappear":
            self._in_view.discard(event.subject)
        if event.kind != "disappear" and self._file is None:
            self._begin(now_ns)
        after_ns = int(self._options.after_s * 1e9)
        self._until_ns = None if self._in_view else now_ns + after_ns

    def _begin(self, now_ns: int) -> None:
        assert self._source is not None
        self._shorten(now_ns)
        self._path = self._budget.new_path()
        file = self._make(self._path)
        try:
            file.open(self._source, self._labels)
        except SinkError as error:
            self._fault(error)
            return
        self._file, self._began_ns = file, now_ns

    def _write(self, count: int) -> None:
        """The oldest ``count`` frames of the ring."""
        for _ in range(min(count, len(self._ring))):
            kept = self._pop()
            if self._file is None:
                return
            try:
                self._file.emit(_restore(kept))
            except SinkError as error:
                self._fault(error)

    def _end(self) -> None:
        self._write(len(self._ring))
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except SinkError as error:
            self._fault(error)
        else:
            self._meter.trouble = ""
        self._budget.enforce(spare=self._path)

    def _fault(self, error: SinkError) -> None:
        """A clip that cannot be written is lost and counted; the run goes on."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(SinkError):
                file.close()
        if not self._meter.trouble:
            log.warning("%s", error)
        self._meter.trouble = str(error)
        self._meter.dropped("disk")

    def _shorten(self, now_ns: int) -> None:
        """Let go of what is older than ``before_s``, or more than the memory allows."""
        before_ns = int(self._options.before_s * 1e9)
        while self._ring and (
            abs(now_ns - self._ring[0].time_ns) > before_ns
            or self._ring_bytes > self._options.memory_mb * 1e6
        ):
            self._pop()

    def _pop(self) -> _Kept:
        kept = self._ring.popleft()
        self._ring_bytes -= kept.jpeg.nbytes
        return kept


def _keep(result: Result) -> _Kept:
    frame = result.frame
    jpeg = encode_jpeg(bgr_pixels(frame), QUALITY)
    bare = replace(frame, pixels=np.empty((0, 0, 3), np.uint8), format="bgr8")
    return _Kept(jpeg, replace(result, frame=bare), frame.time_ns)


def _restore(kept: _Kept) -> Result:
    pixels: Any = cv2.imdecode(kept.jpeg, cv2.IMREAD_COLOR)
    return replace(kept.result, frame=replace(kept.result.frame, pixels=pixels))
