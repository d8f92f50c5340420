"""Recordings of copied packets: every frame of the stream, as it came, and the boxes beside."""

from __future__ import annotations

import io
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..core.detections import Result
from ..core.errors import SinkError
from ..core.frame import SourceInfo
from ..core.interfaces import Sink, Updatable
from ..core.packets import EncodedPacket, PacketTap, StreamHead
from ..core.stats import OutputMeter
from .json_lines import (
    exists,
    holds_something,
    open_output,
    unwritable,
)
from .salvage import is_torn, keep_whole, why_not_more
from .video import CONTAINERS, FORMATS, BoxesBeside, plain_errors

log = logging.getLogger(__name__)

# A fragment ends at a key frame, or after a second: so much is lost when the process dies.
FRAGMENT_US = 1_000_000
MOST_EARLY = 32  # results that wait for their packets


class Uncopyable(SinkError):
    """No file can be made of the packets of this stream; its pictures can be encoded."""


class PacketWriter:
    """Writes one file from packets of one stream, the first a key frame; its times begin at 0.

    Every method raises OSError where the file cannot be written, ValueError where libav refuses.
    """

    def __init__(self, path: Path, head: StreamHead) -> None:
        import av

        kind = FORMATS[path.suffix.lower()]
        options = {**CONTAINERS[kind], "frag_duration": str(FRAGMENT_US)}
        if kind == "matroska":
            del options["frag_duration"]
        self._time_base = Fraction(*head.time_base)
        with plain_errors():
            with av.open(io.BytesIO(head.init), format="nut") as template:
                # "file:", or a name with a colon in it would be taken for a protocol
                self._container: Any = av.open(f"file:{path}", "w", format=kind, options=options)
                self._stream: Any = self._container.add_stream_from_template(
                    template.streams.video[0]
                )
            self._stream.time_base = self._time_base

    def write(self, packet: EncodedPacket, *, dts: int, pts: int) -> None:
        """With times of its own, in ticks of the head."""
        import av

        copy: Any = av.Packet(packet.data)
        copy.pts, copy.dts, copy.duration = pts, dts, packet.duration
        copy.time_base, copy.is_keyframe, copy.stream = self._time_base, packet.key, self._stream
        with plain_errors():
            self._container.mux(copy)

    def close(self) -> None:
        with plain_errors():
            self._container.close()


class CopiedFile:
    """One recording: a video of packets, and the boxes beside. Raises SinkError."""

    def __init__(
        self, path: Path, head: StreamHead, *, beside: BoxesBeside | None, overwrite: bool
    ) -> None:
        self.path, self._head = path, head
        self._beside = beside
        self._origin = 0  # of its times, in ticks
        self._delay: int | None = None  # of its first frame, which is shown so much later
        self._last_dts = -1
        self._last_captured_ns: int | None = None
        self._span_ns = (1, 0)  # of its frames on the stream's clock
        self.frames = 0
        self._writer: PacketWriter | None = None
        self._claim = open_output(path, truncate=False, overwrite=overwrite)
        try:
            self._writer = PacketWriter(path, head)
        except (OSError, ValueError) as error:
            self._claim.close()
            raise self._fault(error) from error

    def write(self, packet: EncodedPacket) -> None:
        """The next packet; the first one is a key frame."""
        assert self._writer is not None
        pts_ns = self._head.ns(packet.pts)
        if self._last_captured_ns is None:  # the first, or the first after a loss of the stream
            self._origin = packet.dts - self._last_dts - 1
            if self._delay is None:
                self._delay = packet.pts - packet.dts
            self._span_ns = (pts_ns, pts_ns)
        dts = max(packet.dts - self._origin, self._last_dts + 1)
        pts = max(packet.pts - self._origin, dts)
        try:
            self._writer.write(packet, dts=dts, pts=pts)
        except ValueError as error:
            if not self.frames:
                raise self._fault(error) from error
            log.debug("a damaged packet is not in %s: %s", self.path, error)
            return
        except OSError as error:
            raise self._fault(error) from error
        self._last_dts, self._last_captured_ns = dts, packet.captured_ns
        self._span_ns = (self._span_ns[0], max(self._span_ns[1], pts_ns))
        self.frames += 1

    def join(self, head: StreamHead, packet: EncodedPacket) -> bool:
        """Go on with another stream after a loss, if it is of the same kind; times go on, too."""
        if head.init != self._head.init or self._last_captured_ns is None:
            return False
        gap_ns = max(0, packet.captured_ns - self._last_captured_ns)
        self._last_dts += gap_ns * head.time_base[1] // (head.time_base[0] * 1_000_000_000)
        self._last_captured_ns = None
        return True

    def holds(self, stream_ns: int) -> bool:
        return self._span_ns[0] <= stream_ns <= self._span_ns[1]

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        if self._beside is not None:
            self._beside.update(source, labels)

    def note(self, result: Result, stream_ns: int) -> None:
        """The boxes of one of its frames."""
        if self._beside is not None:
            first_ns = self._head.ns(self._origin + (self._delay or 0))
            at_ms = round((stream_ns - first_ns) / 1e6, 3)
            self._beside.write(result, at_ms)

    def end_video(self) -> None:
        """No packets come any more; boxes may."""
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
                if is_torn(self.path, self.frames):
                    raise why_not_more(self.path)
        except (OSError, ValueError) as error:
            raise self._fault(error) from error
        finally:
            self._claim.close()
        if writer is not None:
            log.info("recorded %d frames to %s", self.frames, self.path)

    def close(self) -> None:
        try:
            self.end_video()
        finally:
            if self._beside is not None:
                self._beside.close()

    def _fault(self, error: Exception) -> SinkError:
        """Let go of the file, cut to what plays."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError, ValueError):
                writer.close()
        beside, self._beside, self._span_ns = self._beside, None, (1, 0)
        if beside is not None:
            with suppress(SinkError):
                beside.close()
        self._claim.close()
        what = f"recording to {self.path} stopped after {self.frames} frames"
        left = f"; {keep_whole(self.path)}"
        if isinstance(error, OSError):
            return unwritable(what, error, self.path, left)
        return Uncopyable(f"{what}: libav refused: {error}{left}")


@dataclass(slots=True)
class Cutting:
    """Where recordings of copied packets go, one after the other.

    ``new_path``: of the next file. ``is_full``: whether the present one ends at the next key frame.
    ``ended``: a file was closed. ``joins``: a stream that was lost goes on in the same file.
    """

    new_path: Callable[[], Path]
    is_full: Callable[[], bool] = lambda: False
    ended: Callable[[], None] = lambda: None
    joins: bool = False


class CopyRecorder:
    """Packets and results of one stream into files that begin at key frames. One thread.

    A result may come after its packet's file has ended: its line goes there as long as the next
    file lasts.
    """

    def __init__(self, cutting: Cutting, *, overwrite: bool, beside: bool = True) -> None:
        self._cutting, self._overwrite, self._beside = cutting, overwrite, beside
        self._names: tuple[SourceInfo, Sequence[str]] | None = None
        self._head: StreamHead | None = None
        self._files: list[CopiedFile] = []  # the present one last
        self._ended = True  # no file takes packets
        self._begins = False  # a new stream, with its first key frame
        self._early: deque[Result] = deque(maxlen=MOST_EARLY)
        self.files = 0  # that were begun

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._names = source, labels
        for file in self._files:
            file.update(source, labels)

    @property
    def path(self) -> Path | None:
        return None if self._ended else self._files[-1].path

    def write(self, item: StreamHead | EncodedPacket) -> None:
        """The head of a stream, or its next packet; raises SinkError."""
        if isinstance(item, StreamHead):
            self._head, self._begins = item, True
            return
        if self._begins:
            if not item.key or self._head is None:
                return
            self._begins = False
            joins = self._cutting.joins and not self._ended
            if not (joins and self._files[-1].join(self._head, item)):
                self.end()
        if item.key and not self._ended and self._cutting.is_full():
            self.end()
        if self._ended:
            if not item.key or self._head is None:
                return
            self._forget(keep=1)
            path, head = self._cutting.new_path(), self._head
            self.files += 1
            beside = BoxesBeside(path, overwrite=self._overwrite) if self._beside else None
            file = CopiedFile(path, head, beside=beside, overwrite=self._overwrite)
            if self._names is not None:
                file.update(*self._names)
            self._files.append(file)
            self._ended = False
        try:
            self._files[-1].write(item)
        except SinkError:
            self._ended = True
            raise
        while self._early and self._files[-1].holds(self._early[0].frame.stream_ns or 0):
            self._note(self._early.popleft())

    def note(self, result: Result) -> None:
        """Its line into the file that its frame is in; raises SinkError.

        That of a frame whose packet is still to come waits for it: it is of another stream.
        """
        if result.frame.stream_ns is not None and not self._note(result) and not self._ended:
            self._early.append(result)

    def _note(self, result: Result) -> bool:
        stream_ns = result.frame.stream_ns or 0
        for file in reversed(self._files):
            if file.holds(stream_ns):
                file.note(result, stream_ns)
                return True
        return False

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            try:
                self._files[-1].end_video()
            finally:
                self._cutting.ended()

    def close(self) -> None:
        try:
            self.end()
        finally:
            self._forget(keep=0)

    def _forget(self, *, keep: int) -> None:
        while len(self._files) > keep:
            self._files.pop(0).close()


class CopyingFileSink:
    """``encoded``, but where the source gives packets these are copied, all of them.

    To ``path``; a stream of another kind, which cannot go into the same file, to ``NAME-2`` and so
    on. A fault is raised.
    """

    def __init__(
        self,
        path: Path,
        tap: PacketTap,
        meter: OutputMeter,
        *,
        encoded: Sink,
        overwrite: bool,
        beside: bool = True,
    ) -> None:
        self._path, self._tap, self._meter, self._encoded = path, tap, meter, encoded
        self._count, self._keeps = 0, beside and not overwrite
        self._copies: bool | None = None  # None: not known yet
        self._failed = False
        self._names: tuple[SourceInfo, Sequence[str]] | None = None
        cutting = Cutting(self._next_path, joins=True)
        self._copy = CopyRecorder(cutting, overwrite=overwrite, beside=beside)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Check that the file can be written; else SinkError."""
        boxes = self._path.with_suffix(".jsonl")
        if self._keeps and holds_something(boxes):
            raise SinkError(exists(boxes))
        self._names = source, labels
        self._encoded.open(source, labels)
        self._copy.open(source, labels)

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._names = source, labels
        self._copy.open(source, labels)
        if self._copies is not True and isinstance(self._encoded, Updatable):
            self._encoded.update(source, labels)

    def emit(self, result: Result) -> None:
        """Write what has come of the stream, and the boxes; raises SinkError."""
        if self._copies is None:
            self._copies = self._tap.head is not None
            if self._copies:
                self._encoded.close()
        if self._failed:
            return
        if self._copies and not (self._drain() and (self._tap.head or self._copy.files)):
            assert self._names is not None
            self._copies = False
            self._encoded.open(*self._names)
        if self._copies:
            try:
                self._copy.note(self._tap.placed(result))
            except SinkError:
                self._fail()
                raise
        else:
            self._encoded.emit(result)

    def idle(self) -> None:
        if self._copies and not self._failed:
            self._drain()

    def close(self) -> None:
        if not self._copies:
            self._encoded.close()
            return
        if self._failed:
            return
        try:
            self._drain()
        finally:
            self._copy.close()

    def _drain(self) -> bool:
        """False where the stream cannot be copied at all."""
        try:
            for item in self._tap.take():
                self._copy.write(item)
        except Uncopyable as error:
            if self._copy.files > 1:
                self._fail()
                raise
            log.warning("%s; encoding instead", error)
            return False
        except SinkError:
            self._fail()
            raise
        self._meter.dropped("slow disk", self._tap.dropped())
        return True

    def _fail(self) -> None:
        self._failed = True
        with suppress(SinkError):
            self._copy.close()

    def _next_path(self) -> Path:
        self._count += 1
        if self._count == 1:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{self._count}{self._path.suffix}")
