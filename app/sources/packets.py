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
MOST_UNTIMED = 64  # packets at the start of a stream
BACKLOG_BYTES = 32_000_000  # in the decoding process, while the pipe is full
READ_BYTES = 1 << 20
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031  # fcntl has it from Python 3.10 on, but not typed


def head_of(stream: Any) -> StreamHead | None:
    """Of a stream of an open PyAV container; None where it does not know its parameter sets."""
    import av

    codec = stream.codec_context
    if not codec.extradata:
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
    except (av.FFmpegError, ValueError):
        return None
    return StreamHead(file.getvalue(), stream.time_base.as_integer_ratio())


class Copier:
    """Passes the packets of a demuxed stream on to a tap."""

    def __init__(self, stream: Any, tap: TakesPackets) -> None:
        self._stream, self._tap = stream, tap
        self.begin()

    def begin(self) -> None:
        """The stream begins, or goes on elsewhere."""
        codec, raw = self._stream.codec_context, self._stream.container.format.name in CODECS
        self._copies = codec is not None and codec.name in CODECS and not raw  # which has no times
        head = head_of(self._stream) if self._copies else None
        self._lacks_head = head is None  # of a camera that sends it with its key frames
        self._untimed: list[Any] = []
        self._next_dts: int | None = None
        self._tap.begin(head)

    def put(self, packet: Any) -> None:
        """The next packet. The first of a network stream may be without times."""
        if not self._copies or not packet.size:  # which ends a stream
            return
        if packet.pts is None and packet.dts is None and self._next_dts is None:
            self._untimed.append(packet)
            if len(self._untimed) > MOST_UNTIMED:
                self._copies = False
                self._tap.begin(None)
            return
        step = packet.duration or self._period()
        dts = packet.pts if packet.dts is None else packet.dts
        if dts is None:
            dts = self._next_dts
        untimed, self._untimed = self._untimed, []
        for i, each in enumerate(untimed):
            self._pass_on(each, dts - step * (len(untimed) - i))
        self._pass_on(packet, dts)
        self._next_dts = dts + step

    def _period(self) -> int:
        """Of a frame, in ticks."""
        rate = self._stream.average_rate or self._stream.guessed_rate or 25
        return int(max(1, round(1 / (rate * self._stream.time_base))))

    def _pass_on(self, packet: Any, dts: int) -> None:
        pts = dts if packet.pts is None else packet.pts
        key, duration, data = packet.is_keyframe, packet.duration or 0, bytes(packet)
        if key and self._lacks_head:
            self._lacks_head = False
            self._tap.begin(self._head_in(data))
        self._tap.put(EncodedPacket(data, pts, dts, duration, key, time.monotonic_ns()))

    def _head_in(self, data: bytes) -> StreamHead | None:
        """Of the parameter sets in a key frame's packet."""
        import av

        stream = self._stream
        try:
            with av.open(io.BytesIO(data), format=stream.codec_context.name) as container:
                head = head_of(container.streams.video[0])
        except (av.FFmpegError, ValueError, IndexError):
            return None
        return head and head._replace(time_base=stream.time_base.as_integer_ratio())


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
