"""Whole pictures out of a stream of bytes, by their own structure."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

from ..core.errors import SourceError

# Between two whole pictures:
MOST_BYTES = 32_000_000
MOST_DAMAGED = 10_000

# Waits for more bytes with each yield; returns the picture's end, or the negative of the last good
# byte of one that is damaged.
_Walk = Generator[None, None, int]
_WINDOW = 1 << 16  # is searched for each kind before the next: one pattern for all is 10 × slower
_LONGEST_START = 12
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_AFTER_SCAN = (0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))
_LENGTH = re.compile(rb"(?i)content-length:\s{0,9}([0-9]{1,20})")
_MOST_SEGMENTS = 1000  # of a JPEG before its picture, for example a profile in pieces
_FALSE_START = 4  # noise that looks like a JPEG's begin ends within so many: a true one may follow


def _jpeg(data: bytearray) -> _Walk:
    """ITU-T T.81, B.1: segments with a length; after a scan's header, data up to a marker."""
    at = 2
    for segment in range(_MOST_SEGMENTS):
        while len(data) < at + 4:
            if data[at : at + 2] == b"\xff\xd9":
                break
            yield
        kind = data[at + 1]
        if data[at] != 0xFF or kind in (0x00, 0xD8):
            return -2 if segment < _FALSE_START else -at
        if kind == 0xD9:
            return at + 2
        if kind == 0xFF:  # a fill byte
            at += 1
        elif kind == 0x01 or 0xD0 <= kind <= 0xD7:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind != 0xDA:
            continue
        while (marker := _MARKER.search(data, at)) is None:
            at = max(at, len(data) - 1)
            yield
        at = marker.start()
        if data[at + 1] not in _AFTER_SCAN:
            break  # cut off: here begins something else
    return -at


def _png(data: bytearray) -> _Walk:
    """PNG, 5.3: chunks of a length, up to IEND."""
    at = 8
    while True:
        while len(data) < at + 12:
            yield
        kind, length = data[at + 4 : at + 8], int.from_bytes(data[at : at + 4], "big")
        if not kind.isalpha() or length > MOST_BYTES:
            return -at
        at += 12 + length
        if kind == b"IEND":
            return at


def _webp(data: bytearray) -> _Walk:
    """RIFF, with one length for all (RFC 9649)."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if not 30 <= end <= MOST_BYTES:
        return -_LONGEST_START
    while len(data) < end:
        yield
    return end


_KINDS: dict[re.Pattern[bytes], Callable[[bytearray], _Walk]] = {
    re.compile(rb"\xff\xd8\xff"): _jpeg,
    re.compile(rb"\x89PNG\r\n\x1a\n"): _png,
    re.compile(rb"RIFF....WEBP", re.DOTALL): _webp,
}


def _start(data: bytearray) -> tuple[int, Callable[[bytearray], _Walk]] | None:
    """Where the first picture may begin, and how it is walked through."""
    for at in range(0, len(data), _WINDOW):
        ends = at + _WINDOW + _LONGEST_START - 1
        found = [
            (begin.start(), walk)
            for magic, walk in _KINDS.items()
            if (begin := magic.search(data, at, ends))
        ]
        if found:
            return min(found, key=lambda each: each[0])
    return None


class PictureCutter:
    """Cuts JPEG, PNG and WebP pictures out of whatever surrounds them.

    Boundaries, part headers and lengths of multipart streams are not needed: cameras send them
    wrong or not at all. A picture is whole at its last byte, not when the next one begins. One that
    is cut off is counted, and passed over up to the next. Memory: ``MOST_BYTES`` and what is fed
    at once. Time: linear in what is fed.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._walk: _Walk | None = None
        self._idle_bytes = self._idle_starts = 0
        self._promised_bytes = 0
        self.damaged = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pictures that are whole with this; raises SourceError when none is for too long."""
        self._data += data
        pictures: list[bytes] = []
        while self._step(pictures):
            self._idle_starts = 0 if pictures else self._idle_starts + 1
            if self._idle_starts > MOST_DAMAGED:
                raise SourceError(f"it sent {MOST_DAMAGED} damaged pictures and no whole one")
        self._idle_bytes = 0 if pictures else self._idle_bytes + len(data)
        if self._idle_bytes > MOST_BYTES:
            promised = self._promised_bytes
            part = f", in a part of {promised / 1e6:.0f} MB" if promised > MOST_BYTES else ""
            raise SourceError(f"it sent {MOST_BYTES / 1e6:.0f} MB without one whole picture{part}")
        return pictures

    def _step(self, pictures: list[bytes]) -> bool:
        """Whether there may be more to find in what is there."""
        if self._walk is None:
            start = _start(self._data)
            skipped = len(self._data) if start is None else start[0]
            if length := _LENGTH.search(self._data, 0, skipped):
                self._promised_bytes = int(length[1])
            if start is None:
                del self._data[: -_LONGEST_START - 32]
                return False
            del self._data[:skipped]
            self._walk = start[1](self._data)
        try:
            next(self._walk)
            return False
        except StopIteration as done:
            end: int = done.value
        self._walk = None
        if end > 0:
            pictures.append(bytes(self._data[:end]))
        else:
            self.damaged += 1
        del self._data[: abs(end)]
        return True
