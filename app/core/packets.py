"""Encoded packets on their way from the source that demuxes them to a recording."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .detections import Result

CODECS = ("h264", "hevc")  # that are recorded by copying
MOST_BYTES = 64_000_000  # that wait for a slow recording; at 20 Mbit/s half a minute


class StreamHead(NamedTuple):
    """What a muxer must know of a stream: a NUT file, and the unit of time stamps."""

    init: bytes
    time_base: tuple[int, int]  # of a tick in seconds: numerator, denominator

    def ns(self, ticks: int) -> int:
        return ticks * self.time_base[0] * 1_000_000_000 // self.time_base[1]


class EncodedPacket(NamedTuple):
    """One encoded frame; times in ticks of its head, ``captured_ns`` monotonic."""

    data: bytes
    pts: int
    dts: int
    duration: int
    key: bool
    captured_ns: int


def as_it_is(result: Result) -> Result:
    return result


class PacketFan:
    """What a source gives packets to: all taps that were made of it. Taps come before packets.

    ``placed``: makes results those of this stream, where frames are taken from another one.
    """

    def __init__(self, placed: Callable[[Result], Result] = as_it_is) -> None:
        self._taps: list[PacketTap] = []
        self._placed = placed

    def tap(self) -> PacketTap:
        self._taps.append(PacketTap(placed=self._placed))
        return self._taps[-1]

    def begin(self, head: StreamHead | None) -> None:
        for tap in self._taps:
            tap.begin(head)

    def put(self, packet: EncodedPacket) -> None:
        for tap in self._taps:
            tap.put(packet)


class PacketTap:
    """A bounded queue of packets: ``begin`` and ``put`` on the source's thread, ``take`` on one.

    When it is full all that waits is dropped and counted, and so is what comes until the next key
    frame: half a group of pictures cannot be shown.
    """

    def __init__(
        self, most_bytes: int = MOST_BYTES, *, placed: Callable[[Result], Result] = as_it_is
    ) -> None:
        self.placed = placed
        self._lock, self._most_bytes = Lock(), most_bytes
        self._waiting: deque[StreamHead | EncodedPacket] = deque()
        self._bytes = self._dropped = 0
        self._skips = False
        self.head: StreamHead | None = None  # of the present stream; None: it cannot be copied

    def begin(self, head: StreamHead | None) -> None:
        with self._lock:
            self.head, self._skips = head, True  # nothing can be shown before a key frame
            if head is not None:
                self._waiting.append(head)

    def put(self, packet: EncodedPacket) -> None:
        with self._lock:
            if packet.key:
                self._skips = False
            if self._skips or self.head is None:
                return
            if self._bytes + len(packet.data) > self._most_bytes:
                self._dropped += sum(isinstance(each, EncodedPacket) for each in self._waiting) + 1
                self._waiting = deque([self.head] if self.head is not None else [])
                self._bytes, self._skips = 0, True
                return
            self._waiting.append(packet)
            self._bytes += len(packet.data)

    def take(self) -> list[StreamHead | EncodedPacket]:
        """All that has come; before the packets of each stream its head."""
        with self._lock:
            taken, self._waiting, self._bytes = list(self._waiting), deque(), 0
            return taken

    def take_one(self) -> StreamHead | EncodedPacket | None:
        with self._lock:
            taken = self._waiting.popleft() if self._waiting else None
            self._bytes -= len(taken.data) if isinstance(taken, EncodedPacket) else 0
            return taken

    def dropped(self) -> int:
        """How many have got lost since it was last asked."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped
