"""Whole pictures out of a stream of bytes, by their own structure."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import NamedTuple

from ..core.errors import SourceError

# Between two whole pictures:
MOST_BYTES = 32_000_000
MOST_DAMAGED = 10_000


class EncodedPicture(NamedTuple):
    """An encoded picture, and its size as its header says."""

    data: bytes
    wh_px: tuple[int, int]


class _Walked(NamedTuple):
    """``end``: behind the picture; negative: it is damaged, and its last good byte is there."""

    end: int
    wh_px: tuple[int, int] = (0, 0)


_Walk = Generator[None, None, _Walked]  # it waits for more bytes with each yield
_START = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
_LONGEST_START = 12
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_LENGTH = re.compile(rb"(?i)content-length:\s{0,9}([0-9]{1,20})")
_MOST_SEGMENTS = 1000  # of a JPEG before its picture, for example a profile in pieces
_FALSE_START = 4  # noise that looks like a JPEG's begin ends within so many: a true one may follow


def _jpeg(data: bytearray) -> _Walk:
    """ITU-T T.81, B.1: segments with a length; after a scan's header, data up to a marker."""
    at, wh_px = 2, (0, 0)
    for segment in range(_MOST_SEGMENTS):
        while len(data) < at + 2:
            yield
        kind = data[at + 1]
        if data[at] != 0xFF or kind in (0x00, 0xD8):
            return _Walked(-2 if segment < _FALSE_START else -at)
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == 0xD9:
            return _Walked(at + 2, wh_px)
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:
            at += 2
            continue
        is_frame = 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)
        while len(data) < at + (9 if is_frame else 4):
            yield
        if is_frame:
            height_px, width_px = _number(data, at + 5, 2), _number(data, at + 7, 2)
            wh_px = max(wh_px[0], width_px), max(wh_px[1], height_px)
        at += 2 + _number(data, at + 2, 2)
        if kind != 0xDA:
            continue
        while (marker := _MARKER.search(data, at)) is None:
            at = max(at, len(data) - 1)
            yield
        at = marker.start()
        if data[at + 1] not in _AFTER_SCAN:
            return _Walked(-at)  # cut off: here begins something else
    return _Walked(-at)


_AFTER_SCAN = (0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0))


def _png(data: bytearray) -> _Walk:
    """PNG, 5.3: chunks of a length, up to IEND."""
    at, wh_px = 8, (0, 0)
    while True:
        while len(data) < at + 16:
            if len(data) >= at + 12 and data[at + 4 : at + 8] == b"IEND":
                return _Walked(at + 12, wh_px)
            yield
        kind, length = data[at + 4 : at + 8], _number(data, at, 4)
        if not kind.isalpha() or length > MOST_BYTES:
            return _Walked(-at)
        if kind == b"IEND":
            return _Walked(at + 12, wh_px)
        if kind == b"IHDR":
            wh_px = _number(data, at + 8, 4), _number(data, at + 12, 4)
        at += 12 + length


def _webp(data: bytearray) -> _Walk:
    """RIFF with one length for all; the size by the kind of the first chunk (RFC 9649)."""
    while len(data) < 30:
        yield
    end = 8 + int.from_bytes(data[4:8], "little")
    if not 30 <= end <= MOST_BYTES:
        return _Walked(-12)
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        sides = [int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27)]
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        sides = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    else:
        sides = [int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (26, 28)]
    while len(data) < end:
        yield
    return _Walked(end, (sides[0], sides[1]))


def _number(data: bytearray, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


_WALKS: dict[int, Callable[[bytearray], _Walk]] = {0xFF: _jpeg, 0x89: _png, 0x52: _webp}


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

    def feed(self, data: bytes) -> list[EncodedPicture]:
        """The pictures that are whole with this; raises SourceError when none is for too long."""
        self._data += data
        pictures: list[EncodedPicture] = []
        while self._step(pictures):
            self._idle_starts = 0 if pictures else self._idle_starts + 1
            if self._idle_starts > MOST_DAMAGED:
                raise SourceError(f"it sent {MOST_DAMAGED} damaged pictures and no whole one")
        self._idle_bytes = 0 if pictures else self._idle_bytes + len(data)
        if self._idle_bytes > MOST_BYTES:
            part = f", in a part of {self._promised_bytes / 1e6:.0f} MB" * bool(
                self._promised_bytes
            )
            raise SourceError(
                f"it sent {MOST_BYTES // 1_000_000} MB without one whole picture{part}"
            )
        return pictures

    def _step(self, pictures: list[EncodedPicture]) -> bool:
        """Whether there may be more to find in what is there."""
        if self._walk is None:
            start = _START.search(self._data)
            skipped = self._data[: start.start()] if start else self._data
            if length := _LENGTH.search(skipped):
                promised = int(length[1])
                self._promised_bytes = promised if promised > MOST_BYTES else 0
            if start is None:
                del self._data[: -_LONGEST_START - 32]
                return False
            del self._data[: start.start()]
            self._walk = _WALKS[self._data[0]](self._data)
        try:
            next(self._walk)
            return False
        except StopIteration as done:
            end, wh_px = done.value
        self._walk = None
        if end > 0:
            pictures.append(EncodedPicture(bytes(self._data[:end]), wh_px))
        else:
            self.damaged += 1
        del self._data[: abs(end)]
        return True
