"""Recordings within a budget of disk: segments that never end, and a clip of each event."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config import ClipOptions, RecordOptions
from ..core.detections import Result
from ..core.errors import SinkError
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import Sink
from ..core.packets import EncodedPacket, PacketTap
from ..core.stats import OutputMeter
from .budget import Budget
from .events import EventMessage
from .packets import CopyRecorder, Cutting
from .video import VideoFileSink, encode_jpeg

log = logging.getLogger(__name__)


class _Recorder:
    """What both kinds of recordings have: a folder, its budget, and the file that is written."""

    def __init__(
        self,
        options: RecordOptions | ClipOptions,
        meter: OutputMeter,
        *,
        prefix: str,
        others: str = "(?!)",
        make: Callable[[Path], Sink],
    ) -> None:
        assert options.path is not None
        self._meter, self._make = meter, make
        self._budget = Budget(
            folder=Path(options.path),
            prefix=prefix,
            max_bytes=int(options.budget_mb * 1e6),
            max_age_s=options.keep_hours * 3600,
            keep_bytes=None if options.keep_mb is None else int(options.keep_mb * 1e6),
            others=others,
        )
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._file: Sink | None = None
        self._path = Path()

    def _claim(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names and the folder; raises SinkError with the cure."""
        self._source, self._labels = source, labels
        self._budget.claim()

    def _begin_file(self) -> None:
        assert self._source is not None
        self._path = self._budget.new_path()
        file = self._make(self._path)
        file.open(self._source, self._labels)
        self._file = file

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _note_trouble(self, error: SinkError, then: str = "") -> None:
        """Log the first fault in a row, and lose the file: a bad disk ends no run."""
        with suppress(SinkError):
            self._end_file()
        if not self._meter.trouble:
            log.warning("%s%s", error, then)
        self._meter.trouble = str(error)
        self._meter.dropped("disk")


LOOK_S = 1.0  # between looks at the size of the file
RETRY_S = 10.0  # between attempts after a fault


class SegmentsSink(_Recorder):
    """Video in a folder, a new file every so many minutes or megabytes.

    Where ``tap`` has a stream's packets, these are copied, with boxes beside (see CopyRecorder).
    Else results are encoded with all drawn in.

    The oldest files are removed to keep within age and budget. A full or vanished disk ends no
    run: frames are counted as lost and a new file is tried every 10 s.
    """

    def __init__(
        self,
        options: RecordOptions,
        meter: OutputMeter,
        *,
        tap: PacketTap | None = None,
        make: Callable[[Path], Sink] = VideoFileSink,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(options, meter, prefix="kestrel", make=make)
        self._options, self._clock_s = options, clock_s
        self._began_s = self._look_s = self._retry_s = 0.0
        self._tap = tap or PacketTap()
        self._copy = CopyRecorder(
            Cutting(self._next_path, lambda: self._is_full(clock_s()), self._ended),
            overwrite=True,  # names are new
        )

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder and try a file in it; raises SinkError."""
        self._claim(source, labels)
        self._copy.open(source, labels)
        try:
            if self._tap.head is None:
                self._begin()
        except SinkError:
            self._budget.release()
            raise

    def emit(self, result: Result) -> None:
        """Write into the present file, or into the next one; never raises for a bad disk."""
        now_s = self._clock_s()
        copies = self._tap.head is not None
        self._take_packets(now_s)
        try:
            if copies:
                self._end_file()  # of a source that gave none before
                self._copy.note(result)
                return
            if self._file is not None and self._is_full(now_s):
                self._end()
            if self._file is None:
                if now_s < self._retry_s:
                    self._meter.dropped("disk")
                    return
                self._begin()
            assert self._file is not None
            self._file.emit(result)
        except SinkError as error:
            self._fail(error, now_s)

    def close(self) -> None:
        """End the present file."""
        self._take_packets(self._clock_s())
        with suppress(SinkError):
            self._copy.close()
        with suppress(SinkError):
            self._end()
        self._budget.release()

    def _ended(self) -> None:
        self._budget.enforce()

    def _take_packets(self, now_s: float) -> None:
        for item in self._tap.take():
            if isinstance(item, EncodedPacket) and now_s < self._retry_s:
                self._meter.dropped("disk")
                continue
            try:
                self._copy.write(item)
            except SinkError as error:
                self._fail(error, now_s)
        self._meter.dropped("slow disk", self._tap.dropped())

    def _fail(self, error: SinkError, now_s: float) -> None:
        self._note_trouble(error, f"; trying again every {RETRY_S:g} s")
        self._budget.enforce()
        # another disk user may have taken the room that the budget promised
        room = error.disk_full and self._budget.make_room()
        self._retry_s = now_s + (LOOK_S if room else RETRY_S)

    def _next_path(self) -> Path:
        self._path = self._budget.new_path()
        self._note_begun()
        return self._path

    def _begin(self) -> None:
        self._begin_file()
        self._note_begun()

    def _note_begun(self) -> None:
        self._began_s = self._look_s = self._clock_s()
        if self._meter.trouble:
            log.info("recording again, to %s", self._path)
            self._meter.trouble = ""

    def _end(self) -> None:
        try:
            self._end_file()
        finally:
            self._budget.enforce()

    def _is_full(self, now_s: float) -> bool:
        if now_s - self._began_s >= self._options.segment_minutes * 60:
            return True
        if now_s - self._look_s < LOOK_S:
            return False
        self._look_s = now_s
        self._budget.enforce(spare=self._path)
        try:
            return self._path.stat().st_size >= self._options.segment_mb * 1e6
        except OSError:  # somebody moved it
            return True


CATCH_UP = 3  # pictures written a frame: what came before is written beside what comes now
QUALITY = 90


@dataclass(frozen=True, slots=True)
class _Kept:
    """A frame as it waits: its picture as JPEG, all else as it came."""

    jpeg: NDArray[np.uint8]
    result: Result  # without pixels
    time_ns: int


class ClipSink(_Recorder):
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
        super().__init__(options, meter, prefix="clip", make=make)
        self._options = options
        self._events: deque[EventMessage] = deque()
        self._in_view: set[str] = set()
        self._ring: deque[_Kept] = deque()
        self._ring_bytes = 0
        self._until_ns: int | None = None  # None: while something is in view
        self._began_ns = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Make the folder; raises SinkError."""
        self._claim(source, labels)
        self._budget.enforce()

    def notice(self, event: EventMessage) -> None:
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
        self._budget.release()

    def _follow(self, event: EventMessage, now_ns: int) -> None:
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
        self._shorten(now_ns)
        try:
            self._begin_file()
        except SinkError as error:
            self._note_trouble(error)
        else:
            self._began_ns = now_ns

    def _write(self, count: int) -> None:
        """The oldest ``count`` frames of the ring."""
        for _ in range(min(count, len(self._ring))):
            kept = self._pop()
            if self._file is None:
                return
            try:
                self._file.emit(_restore(kept))
            except SinkError as error:
                self._note_trouble(error)

    def _end(self) -> None:
        self._write(len(self._ring))
        if self._file is None:
            return
        try:
            self._end_file()
        except SinkError as error:
            self._note_trouble(error)
        else:
            self._meter.trouble = ""
        self._budget.enforce(spare=self._path)

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
