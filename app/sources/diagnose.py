"""Why a source did not open or ended early, and the cure."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from ..core.errors import SourceError
from ..core.schemes import scheme_of

_MP4_PARENTS = {b"moov", b"trak", b"mdia"}


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What MP4/MOV and AVI files tell of themselves; the defaults where nothing is known."""

    kind: str = ""  # "MP4", "AVI" or ""
    bytes_missing: int = 0
    has_index: bool = True  # False: an MP4 without its moov atom cannot be played
    video_s: float | None = None  # after edits: a trimmed clip keeps frames that are never shown


def look_into(path: Path) -> ContainerFacts:
    """Read the headers only. Never raises on a broken file: it tells what it could see."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
                return _look_into_mp4(file, size)
            if head[:4] == b"RIFF" and head[8:] == b"AVI ":
                promised = int.from_bytes(head[4:8], "little") + 8
                return ContainerFacts("AVI", bytes_missing=max(0, promised - size))
    except (OSError, struct.error, IndexError):
        pass
    return ContainerFacts()


def _look_into_mp4(file: BinaryIO, size: int) -> ContainerFacts:
    missing, has_index, movie_scale = 0, False, 0
    track_units: int | None = None  # of the track at hand, until its handler tells what it is
    video_s: float | None = None
    for kind, start, end in _boxes(file, 0, size):
        missing = max(missing, end - size)
        file.seek(start)
        if kind == b"moov":
            has_index = end <= size
        elif kind == b"trak":
            track_units = None
        elif kind == b"mvhd":
            movie_scale = _full_box_number(file, after_v0=8, after_v1=16, wide=False)
        elif kind == b"tkhd":
            track_units = _full_box_number(file, after_v0=16, after_v1=24, wide=True)
        elif kind == b"hdlr" and file.read(12)[8:] == b"vide" and track_units and movie_scale:
            video_s = track_units / movie_scale
    return ContainerFacts("MP4", missing, has_index, video_s)


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of content, end) of each box, the few that matter opened (ISO 14496-12, 4.2)."""
    while start + 8 <= stop:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            content += 8
        elif length == 0:  # reaches to the end of the file
            length = stop - start
        if length < 8:
            return
        yield kind, content, start + length
        if kind in _MP4_PARENTS:
            yield from _boxes(file, content, min(stop, start + length))
        start += length


def _full_box_number(file: BinaryIO, *, after_v0: int, after_v1: int, wide: bool) -> int:
    """A big-endian number of a versioned box; version 1 has 64-bit times, so it lies further on."""
    version = file.read(4)[0]
    file.seek(after_v1 if version else after_v0, 1)
    number = file.read(8 if version and wide else 4)
    return 0 if number.strip(b"\xff") == b"" else int.from_bytes(number, "big")  # all ones: unknown


REFUSED = "connection refused: check the port and that the server runs"


def unreadable_file(path: Path, label: str) -> SourceError:
    """The error for a file that FFmpeg could not open."""
    if not path.exists():
        return missing_file(label)
    size = path.stat().st_size
    if size == 0:
        return SourceError(f"{label} is empty (0 bytes): copy or record it again")
    if not os.access(path, os.R_OK):
        return SourceError(f"no permission to read {label}: see 'ls -l', then chmod or chown it")
    facts = look_into(path)
    if not facts.has_index:
        return SourceError(
            f"{label} was cut off: its index (the moov atom) is missing, so no frame can be found; "
            "record or copy it again and let the recorder finish"
        )
    return SourceError(
        f"{label} ({size} bytes) is no video that FFmpeg can decode: "
        "check it with 'ffprobe', or convert it to MP4 (H.264)"
    )


def check_name(where: str, label: str) -> None:
    """Raises SourceError for a name that is not UTF-8: OpenCV 5.0 dies of it (SIGSEGV)."""
    try:
        where.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"{label!a} cannot be opened: its name is not valid UTF-8; rename it"
        ) from None


def missing_file(label: str) -> SourceError:
    """The error for a path where nothing is."""
    hint = f"; for the camera write camera:{label}" if label.isdecimal() else ""
    place = "" if Path(label).is_absolute() else f" in {Path.cwd()}"
    return SourceError(f"there is no file or folder {label}{place}: check the path{hint}")


def missing_sample(path: Path) -> SourceError:
    """The error for an installation without its bundled clip."""
    return SourceError(f"the bundled clip {path} is missing: check out or install Kestrel again")


def unreachable(uri: str, label: str, *, waited_s: float, limit_s: float) -> SourceError:
    """The error for a stream that did not open; asks the host's port once why."""
    if waited_s >= 0.9 * limit_s:
        return SourceError(
            f"{label} did not answer for {limit_s:g} s: check the address and that the device "
            "streams, or raise the open timeout"
        )
    why = port_fault(uri, limit_s) or (
        "the server answers, but gives no video there: check the path, the user name and the "
        "password"
    )
    return SourceError(f"cannot open {label}: {why}")


def port_fault(uri: str, limit_s: float) -> str | None:
    """Why nobody answers at the address's port; None where somebody does."""
    try:
        parts, scheme = urlsplit(uri), scheme_of(uri)
        if scheme is not None and not scheme.port:
            return None  # nothing listens there on TCP
        host, port = parts.hostname or "", parts.port or (scheme.port if scheme else 0)
        socket.create_connection((host, port), timeout=min(1.0, limit_s)).close()
    except socket.gaierror:
        return "the host name is not known: check the address and the network"
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return "the host does not answer: check the address and the network"
    except (OSError, ValueError) as error:
        return f"{error}: check the address"
    return None


def no_frame(label: str, limit_s: float) -> SourceError:
    """The error for a source that went silent."""
    return SourceError(
        f"no frame from {label} for {limit_s:g} s: check the device and the network, "
        "or raise the read timeout"
    )
