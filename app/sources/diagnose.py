"""Why did a source not open, and what can the user do about it?"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from app.errors import SourceError
from app.sources.container import look_into

REFUSED = "connection refused: check the port and that the server runs"
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


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
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
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
