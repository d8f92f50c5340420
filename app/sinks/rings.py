"""The last seconds before an event, and the clip that is made of them: as pictures, or packets.

Both rings keep what came within ``before_ns``. ``add`` keeps a frame and returns its time, in ns of
a clock of its own; ``shorten`` lets go of what is older, or more than the memory allows; ``begin``,
``go_on`` and ``end`` write a clip of what is held and what follows, and raise SinkError.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.detections import Result
from ..core.frame import SourceInfo, bgr_pixels
from ..core.interfaces import Sink
from ..core.packets import EncodedPacket, PacketTap, StreamHead
from .packets import CopyRecorder, Cutting
from .video import encode_jpeg

CATCH_UP = 3  # pictures written a frame: what came before is written beside what comes now
QUALITY = 90
_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A frame as it waits: its picture as JPEG, all else as it came."""

    jpeg: NDArray[np.uint8]
    result: Result  # without pixels
    time_ns: int


class PictureRing:
    """Frames as JPEG; a clip of them is encoded by what ``make`` gives."""

    def __init__(self, before_ns: int, most_bytes: float, *, make: Callable[[Path], Sink]) -> None:
        self._before_ns, self._most_bytes, self._make = before_ns, most_bytes, make
        self._ring: deque[_Kept] = deque()
        self.bytes = 0
        self._names: tuple[SourceInfo, Sequence[str]] | None = None
        self._file: Sink | None = None

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._names = source, labels

    def add(self, result: Result) -> int:
        """The time is that of the frame among its source's."""
        frame = result.frame
        jpeg = encode_jpeg(bgr_pixels(frame), QUALITY)
        bare = replace(frame, pixels=_NO_PIXELS, format="bgr8")
        self._ring.append(_Kept(jpeg, replace(result, frame=bare), frame.time_ns))
        self.bytes += jpeg.nbytes
        return frame.time_ns

    def shorten(self, now_ns: int) -> None:
        while self._ring and (
            abs(now_ns - self._ring[0].time_ns) > self._before_ns or self.bytes > self._most_bytes
        ):
            self._pop()

    def begin(self, path: Path) -> None:
        assert self._names is not None
        file = self._make(path)
        file.open(*self._names)
        self._file = file

    def go_on(self, now_ns: int) -> None:
        self._write(CATCH_UP)

    def end(self, now_ns: int) -> None:
        try:
            self._write(len(self._ring))
        finally:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def _write(self, count: int) -> None:
        for _ in range(min(count, len(self._ring))):
            kept = self._pop()
            if self._file is not None:
                self._file.emit(_restore(kept))

    def _pop(self) -> _Kept:
        kept = self._ring.popleft()
        self.bytes -= kept.jpeg.nbytes
        return kept


def _restore(kept: _Kept) -> Result:
    pixels: Any = cv2.imdecode(kept.jpeg, cv2.IMREAD_COLOR)
    return replace(kept.result, frame=replace(kept.result.frame, pixels=pixels))


class PacketRing:
    """Packets from a key frame before ``before_ns`` on; a clip of them is a copy, boxes beside."""

    def __init__(self, before_ns: int, most_bytes: float, tap: PacketTap) -> None:
        self._before_ns, self._most_bytes, self._tap = before_ns, most_bytes, tap
        self._head: StreamHead | None = None
        self._ring: deque[EncodedPacket] = deque()
        self.bytes = 0
        self._keys: deque[int] = deque()  # times of the key frames in the ring
        self._results: deque[Result] = deque()  # without pixels, as long as their packets
        self._names: tuple[SourceInfo, Sequence[str]] | None = None
        self._clip: CopyRecorder | None = None
        self._waiting: deque[StreamHead | EncodedPacket] = deque()  # for the clip
        self._unnoted: deque[Result] = deque()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._names = source, labels

    def add(self, result: Result) -> int:
        """The time is that of the stream."""
        for item in self._tap.take():
            self._keep(item)
            if self._clip is not None:
                self._waiting.append(item)
        bare = self._tap.placed(result)
        if bare is result:  # else it has no pixels by now
            bare = replace(result, frame=replace(result.frame, pixels=_NO_PIXELS, format="bgr8"))
        self._results.append(bare)
        if self._clip is not None:
            self._unnoted.append(bare)
        return _time_ns(bare)

    def shorten(self, now_ns: int) -> None:
        start_ns = now_ns - self._before_ns
        while len(self._keys) > 1 and (self._keys[1] <= start_ns or self.bytes > self._most_bytes):
            self._drop_group()
        if self.bytes > self._most_bytes:
            self._clear()
        first_ns = self._keys[0] if self._keys else now_ns
        while self._results and _time_ns(self._results[0]) < first_ns:
            self._results.popleft()

    def begin(self, path: Path) -> None:
        assert self._names is not None and self._head is not None
        self._clip = CopyRecorder(Cutting(lambda: path, joins=True), overwrite=True)
        self._clip.open(*self._names)
        self._waiting = deque([self._head, *self._ring])
        self._unnoted = self._results.copy()

    def go_on(self, now_ns: int) -> None:
        if self._clip is None or self._head is None:
            return
        self.shorten(now_ns)
        # in the order of decoding: a frame that is shown later may come before one that is due, and
        # what is left of a stream before the newest head has another clock
        due = 0
        for i, item in enumerate(self._waiting, 1):
            if isinstance(item, StreamHead) or self._head.ns(item.pts) <= now_ns:
                due = i
        for _ in range(due):
            self._clip.write(self._waiting.popleft())
        while self._unnoted:
            self._clip.note(self._unnoted.popleft())

    def end(self, now_ns: int) -> None:
        try:
            self.go_on(now_ns)
        finally:
            clip, self._clip = self._clip, None
            self._waiting.clear()
            self._unnoted.clear()
            if clip is not None:
                clip.close()

    def _keep(self, item: StreamHead | EncodedPacket) -> None:
        if isinstance(item, StreamHead):
            self._head = item
            self._clear()
            return
        if self._head is not None and item.key:
            self._keys.append(self._head.ns(item.pts))
        self._ring.append(item)
        self.bytes += len(item.data)

    def _drop_group(self) -> None:
        """The first key frame and what follows, up to the next."""
        self._keys.popleft()
        self.bytes -= len(self._ring.popleft().data)
        while self._ring and not self._ring[0].key:
            self.bytes -= len(self._ring.popleft().data)

    def _clear(self) -> None:
        self._ring.clear()
        self._keys.clear()
        self._results.clear()
        self.bytes = 0


def _time_ns(result: Result) -> int:
    return result.frame.stream_ns or 0
