"""Packets of a demuxed stream for a recording, also out of the process that decodes it."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import time
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

from ..core.packets import CODECS, EncodedPacket, PacketTap, StreamHead


class TakesPackets(Protocol):
    """A PacketFan or PacketTap."""

    def begin(self, head: StreamHead | None) -> None:
        """See PacketTap."""

    def put(self, packet: EncodedPacket) -> None:
        """See PacketTap."""


_RECORD = struct.Struct("<BIqqqq")  # kind, bytes that follow, pts or numerator, dts or …
_NO_HEAD, _HEAD, _KEY, _DELTA = range(4)
BACKLOG_BYTES = 32_000_000  # in the decoding process, while the pipe is full
READ_BYTES = 1 << 20
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # fcntl has it from Python 3.10 on, but not typed


def head_of(stream: Any) -> StreamHead | None:
    """Of a stream of an open PyAV container; None where its codec is not copied."""
    import av

    codec = stream.codec_context
    if codec is None or codec.name not in CODECS or not codec.extradata:
        return None
    file = io.BytesIO()
    try:
        # NUT keeps parameter sets as they are, where MP4 would turn those of a live stream into
        # another form than its packets have. It wants a packet to be opened: any will do.
        with av.open(file, "w", format="nut") as container:
            any_packet: Any = av.Packet(bytes(codec.extradata))
            any_packet.stream = container.add_stream_from_template(stream)
            any_packet.pts = any_packet.dts = 0
            any_packet.time_base, any_packet.is_keyframe = stream.time_base, True
            container.mux(any_packet)
    except (av.FFmpegError, ValueError):  # its parameters are not known yet
        return None
    return StreamHead(file.getvalue(), stream.time_base.as_integer_ratio())


def pass_on(packet: Any, tap: TakesPackets) -> None:
    """A demuxed PyAV packet. A stream whose packets have no times is not copied."""
    pts, dts = packet.pts, packet.dts
    if not packet.size:  # which ends a stream
        return
    if pts is None and dts is None:
        tap.begin(None)
        return
    pts, dts = pts if pts is not None else dts, dts if dts is not None else pts
    key, duration = packet.is_keyframe, packet.duration or 0
    tap.put(EncodedPacket(bytes(packet), pts, dts, duration, key, time.monotonic_ns()))


def stream_ns(frame: Any) -> int | None:
    """A decoded PyAV frame's time on the clock of its packets, as StreamHead.ns gives theirs."""
    if frame.pts is None or not frame.time_base:
        return None
    numerator, denominator = frame.time_base.as_integer_ratio()
    return int(frame.pts * numerator * 1_000_000_000 // denominator)


class PipeTap(PacketTap):
    """The decoding process's end: it never waits for the other one."""

    def __init__(self, fd: int) -> None:
        super().__init__(BACKLOG_BYTES)
        self._fd = fd
        self._out: deque[memoryview] = deque()
        os.set_blocking(fd, False)

    def begin(self, head: StreamHead | None) -> None:
        """See PacketTap."""
        super().begin(head)
        if head is None:
            self._append(_RECORD.pack(_NO_HEAD, 0, 0, 0, 0, 0))
        self._flush()

    def put(self, packet: EncodedPacket) -> None:
        """See PacketTap."""
        super().put(packet)
        self._flush()

    def _append(self, data: bytes) -> None:
        self._out.append(memoryview(data))

    def _flush(self) -> None:
        """Write as much as the pipe takes. What does not fit yet waits in the tap, bounded."""
        with suppress(BlockingIOError, BrokenPipeError):
            while True:
                while self._out:
                    data = self._out[0]
                    written = os.write(self._fd, data)
                    if written == len(data):
                        self._out.popleft()
                    else:
                        self._out[0] = data[written:]
                if not (taken := self.take_one()):
                    return
                if isinstance(taken, StreamHead):
                    self._append(_RECORD.pack(_HEAD, len(taken.init), *taken.time_base, 0, 0))
                    self._append(taken.init)
                    continue
                kind = _KEY if taken.key else _DELTA
                data_bytes, times = len(taken.data), (taken.pts, taken.dts, taken.duration)
                self._append(_RECORD.pack(kind, data_bytes, *times, taken.captured_ns))
                self._append(taken.data)


class PipeReader:
    """Our end: what has come goes into a tap."""

    def __init__(self, fd: int, tap: TakesPackets) -> None:
        self._fd, self._tap = fd, tap
        self._data = bytearray()
        os.set_blocking(fd, False)
        with suppress(OSError):  # more than a user may have
            fcntl.fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)

    def drain(self) -> None:
        """Take what is there; never waits."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, READ_BYTES):
                self._data += data
                self._parse()

    def close(self) -> None:
        """Close the file descriptor."""
        os.close(self._fd)

    def _parse(self) -> None:
        at = 0
        while len(self._data) - at >= _RECORD.size:
            kind, size, pts, dts, duration, captured_ns = _RECORD.unpack_from(self._data, at)
            end = at + _RECORD.size + size
            if len(self._data) < end:
                break
            content = bytes(memoryview(self._data)[end - size : end])
            at = end
            if kind in (_HEAD, _NO_HEAD):
                self._tap.begin(StreamHead(content, (pts, dts)) if kind == _HEAD else None)
            else:
                self._tap.put(EncodedPacket(content, pts, dts, duration, kind == _KEY, captured_ns))
        del self._data[:at]
