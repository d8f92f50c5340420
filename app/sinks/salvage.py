"""The whole part of a recording that was cut short, at whose end it must be cut to play.

FFmpeg rejects an MP4 altogether that ends in half a moof. A walk over the boxes tells where the
last whole piece ends, without reading the pictures.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675  # RFC 9559 (Matroska), RFC 8794 (EBML)
_BLOCKS = (0xA0, 0xA3)  # BlockGroup, SimpleBlock: a frame each, as FFmpeg writes them
_HEADER_BYTES = 12  # an EBML id has up to 4 bytes, a size up to 8


def whole_part(path: Path) -> tuple[int, int]:
    """(end, frames) of the whole fragments (MP4, MOV) or clusters (MKV). Raises OSError.

    What H264Writer writes is told, not any file of these kinds.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        matroska = file.read(4) == b"\x1a\x45\xdf\xa3"
        return (_clusters if matroska else _fragments)(file, size)


def keep_whole(path: Path) -> str:
    """Cut a recording to what plays, or remove it; the end of a message that says what is left."""
    try:
        end, kept = whole_part(path)
        if kept:
            os.truncate(path, end)
            return f"the first {kept} of them stay playable"
        path.resolve().unlink()  # a link to it is the user's own
    except OSError as fault:
        return f"what plays of it could not be told ({fault.strerror})"
    return "none of them was written whole, so the file is removed"


def is_torn(path: Path, frames: int) -> bool:
    """Whether some of the frames are missing in the closed file: libav does not tell of that."""
    try:
        return whole_part(path)[1] < frames
    except FileNotFoundError:  # somebody moved it while it grew, which harms nothing
        return False


def why_not_more(path: Path) -> OSError:
    """Why the end of the file was not written, which libav does not tell: one more byte is tried.

    It may stay there.
    """
    try:
        with path.open("ab", buffering=0) as file:
            file.write(b"\0")
    except OSError as error:
        return error
    return OSError(errno.EIO, "its end could not be written")


def _fragments(file: BinaryIO, size: int) -> tuple[int, int]:
    """(end, frames) of all pairs of moof and mdat (ISO 14496-12, 8.8)."""
    end = frames = at = in_moof = 0
    while (box := _box(file, at, size)) is not None:
        kind, content, at = box
        if kind == b"moof":
            in_moof = _samples(file, content, at)
        elif kind == b"mdat" and in_moof:
            end, frames, in_moof = at, frames + in_moof, 0
    return end, frames


def _samples(file: BinaryIO, at: int, stop: int) -> int:
    """The sample counts of a moof's runs: moof / traf / trun."""
    count = 0
    while (box := _box(file, at, stop)) is not None:
        kind, content, at = box
        if kind == b"traf":
            count += _samples(file, content, at)
        elif kind == b"trun":
            file.seek(content + 4)  # behind version and flags
            count += int.from_bytes(file.read(4), "big")
    return count


def _box(file: BinaryIO, at: int, stop: int) -> tuple[bytes, int, int] | None:
    """(type, start of content, end) of the box at ``at``, None where no whole one is."""
    file.seek(at)
    head = file.read(16)
    if len(head) < 8:
        return None
    length, kind = struct.unpack(">I4s", head[:8])
    content = at + 8
    if length == 1 and len(head) == 16:
        length, content = int.from_bytes(head[8:], "big"), at + 16
    end = at + length
    return (kind, content, end) if content <= end <= stop else None


def _clusters(file: BinaryIO, size: int) -> tuple[int, int]:
    """(end, frames) of all whole clusters."""
    end = frames = at = 0
    while (element := _element(file, at, size)) is not None:
        kind, content, at = element
        if kind == _SEGMENT:
            at = content  # into it: its size is unknown until the recording is closed
        elif kind == _CLUSTER:
            end, frames = at, frames + _blocks(file, content, at)
    return end, frames


def _blocks(file: BinaryIO, at: int, stop: int) -> int:
    count = 0
    while (element := _element(file, at, stop)) is not None:
        kind, _, at = element
        count += kind in _BLOCKS
    return count


def _element(file: BinaryIO, at: int, stop: int) -> tuple[int, int, int] | None:
    """(id, start of content, end) of the EBML element at ``at``, None where no whole one is.

    Only the segment may end later than ``stop``.
    """
    file.seek(at)
    head = file.read(_HEADER_BYTES)
    id_bytes = 9 - head[0].bit_length() if head else 0
    if len(head) <= id_bytes or not head[id_bytes]:
        return None
    size_bytes = 9 - head[id_bytes].bit_length()
    content = at + id_bytes + size_bytes
    if len(head) < content - at:
        return None
    kind = int.from_bytes(head[:id_bytes], "big")
    marked = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big")
    end = content + (marked ^ (1 << 7 * size_bytes))  # less the mark of its own length
    return (kind, content, end) if end <= stop or kind == _SEGMENT else None
