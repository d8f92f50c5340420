"""Why a source did not open or ended early, and the cure."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from ..core.errors import SourceError
from ..core.schemes import scheme_of
from .base import load_av


def bytes_missing(path: Path) -> int:
    """How many bytes its container promises and the file lacks; 0 where that is not known.

    Reads a few headers of MP4/MOV, AVI and Matroska. Never raises on a broken file.
    """
    return _look_into(path)[0]


def _look_into(path: Path) -> tuple[int, bool]:
    """(bytes missing, whether it is an MP4 without its index)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
                return _look_into_mp4(file, size)
            if head[:4] == b"RIFF" and head[8:] == b"AVI ":
                promised = int.from_bytes(head[4:8], "little") + 8
                return max(0, promised - size), False
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return max(0, _matroska_end(file) - size), False
    except (OSError, struct.error, IndexError):
        pass
    return 0, False


def _look_into_mp4(file: BinaryIO, size: int) -> tuple[int, bool]:
    """Through the outermost boxes only (ISO 14496-12, 4.2)."""
    missing, has_index, start = 0, False, 0
    while start + 8 <= size:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        elif length == 0:  # reaches to the end of the file
            length = size - start
        if length < 8:
            break
        start += length
        missing = max(missing, start - size)
        has_index = has_index or (kind == b"moov" and start <= size)
    return missing, not has_index


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends, 0 where it does not say: a header, then the segment (RFC 8794)."""
    file.seek(4)
    file.seek(_ebml_length(file), 1)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _ebml_length(file)
    return file.tell() + length if length else 0


def _ebml_length(file: BinaryIO) -> int:
    """A length of one to eight bytes, the number of which its first one tells; unknown: 0."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()
    value = (first & ((1 << (7 - more)) - 1)) << (8 * more) | int.from_bytes(file.read(more), "big")
    return 0 if value == (1 << (7 * (more + 1))) - 1 else value


REFUSED = "connection refused: check the port and that the server runs"


def unreadable_file(path: Path, label: str, error: Exception) -> SourceError:
    """The error for a file that FFmpeg could not open."""
    if not path.exists():
        return missing_file(label)
    size = path.stat().st_size
    if not os.access(path, os.R_OK):
        return SourceError(f"no permission to read {label}: see 'ls -l', then chmod or chown it")
    if isinstance(error, MemoryError):
        return SourceError(f"{label} needs more memory than there is: convert or record it again")
    if _look_into(path)[1]:
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


def check_not_empty(path: Path, label: str) -> None:
    """Raises SourceError for a file of 0 bytes, of which FFmpeg makes a stream without pictures."""
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{label} is empty (0 bytes): copy or record it again")


def missing_file(label: str) -> SourceError:
    """The error for a path where nothing is."""
    hint = f"; for the camera write camera:{label}" if label.isdecimal() else ""
    place = "" if Path(label).is_absolute() else f" in {Path.cwd()}"
    return SourceError(f"there is no file or folder {label}{place}: check the path{hint}")


def missing_sample(path: Path) -> SourceError:
    """The error for an installation without its bundled clip."""
    return SourceError(f"the bundled clip {path} is missing: check out or install Kestrel again")


def unreachable(
    uri: str, label: str, error: Exception, *, waited_s: float, limit_s: float
) -> SourceError:
    """The error for a stream that did not open, by what FFmpeg says and, where it does not tell,
    by asking the host's port once."""
    if waited_s >= 0.9 * limit_s or isinstance(error, TimeoutError):
        return SourceError(
            f"{label} did not answer for {limit_s:g} s: check the address and that the device "
            "streams, or raise the open timeout"
        )
    av_error = load_av().error
    said = getattr(error, "strerror", "")
    if isinstance(error, ConnectionRefusedError):
        why = REFUSED
    elif isinstance(error, (av_error.HTTPUnauthorizedError, av_error.HTTPForbiddenError)):
        why = f"the server answers '{said}': check the user name and the password"
    elif isinstance(error, (av_error.HTTPClientError, av_error.HTTPServerError)):
        why = f"the server answers '{said}': check the path"
    else:
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
