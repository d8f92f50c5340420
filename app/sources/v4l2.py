"""What is a V4L2 camera called, and in which formats, sizes and rates does it deliver?

Asked of the kernel by the calls of linux/videodev2.h; the structures are those of its 64-bit form.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.sources.discover import cameras

_QUERYCAP = 0x80685600  # struct v4l2_capability, 104 bytes
_ENUM_FMT = 0xC0405602  # struct v4l2_fmtdesc, 64 bytes
_ENUM_FRAMESIZES = 0xC02C564A  # struct v4l2_frmsizeenum, 44 bytes
_ENUM_FRAMEINTERVALS = 0xC034564B  # struct v4l2_frmivalenum, 52 bytes
_CAPTURE = 0x00000001
_HAS_DEVICE_CAPS = 0x80000000
_DISCRETE = 1
_MOST = 64  # of each list; a driver that never says "no more" ends there

Ioctl = Callable[[int, int, bytearray], object]


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a camera can deliver; ``fps`` is its highest rate, None if not told."""

    fourcc: str
    wh_px: tuple[int, int]
    fps: float | None

    @property
    def query(self) -> str:
        """What it looks like behind ``camera:N?``."""
        rate = f"&fps={self.fps:g}" if self.fps else ""
        return f"size={self.wh_px[0]}x{self.wh_px[1]}&format={self.fourcc}{rate}"


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of this machine."""

    number: int
    name: str
    modes: tuple[Mode, ...] = field(default=())

    @property
    def uri(self) -> str:
        """The source that it is."""
        return f"camera:{self.number}"


def list_cameras(dev: Path = Path("/dev"), ioctl: Ioctl = fcntl.ioctl) -> list[Camera]:
    """The cameras, by number; their metadata devices and video outputs are left out.

    One that cannot be asked (no permission, busy) is listed under its path. May block while a
    driver does: not for a thread that must stay responsive.
    """
    found = []
    for number in cameras(dev):
        path = dev / f"video{number}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            found.append(Camera(number, str(path)))
            continue
        try:
            name = _name_of_camera(fd, ioctl)
            if name is not None:
                found.append(Camera(number, name, tuple(_modes(fd, ioctl))))
        except OSError:
            found.append(Camera(number, str(path)))
        finally:
            os.close(fd)
    return found


def _name_of_camera(fd: int, ioctl: Ioctl) -> str | None:
    """Its name, None if the device captures no video."""
    answer = bytearray(104)
    ioctl(fd, _QUERYCAP, answer)
    capabilities, device_caps = struct.unpack_from("=II", answer, 84)
    able = device_caps if capabilities & _HAS_DEVICE_CAPS else capabilities
    if not able & _CAPTURE:
        return None
    return bytes(answer[16:48]).split(b"\0")[0].decode("utf-8", "replace") or "camera"


def _modes(fd: int, ioctl: Ioctl) -> Iterator[Mode]:
    """Each format in each size, the largest size first."""
    for code in _formats(fd, ioctl):
        fourcc = code.to_bytes(4, "little").decode("latin-1")
        for wh_px in sorted(_sizes(fd, code, ioctl), reverse=True):
            yield Mode(fourcc, wh_px, _highest_rate(fd, code, wh_px, ioctl))


def _formats(fd: int, ioctl: Ioctl) -> Iterator[int]:
    for answer in _ask(fd, _ENUM_FMT, 64, struct.pack("=I", 1), ioctl):
        (code,) = struct.unpack_from("=I", answer, 44)
        yield code


def _sizes(fd: int, code: int, ioctl: Ioctl) -> set[tuple[int, int]]:
    sizes = set()
    for answer in _ask(fd, _ENUM_FRAMESIZES, 44, struct.pack("=I", code), ioctl):
        kind, *numbers = struct.unpack_from("=7I", answer, 8)
        if kind == _DISCRETE:
            sizes.add((numbers[0], numbers[1]))
        else:  # any size in a range: the largest
            sizes.add((numbers[1], numbers[4]))
            break
    return sizes


def _highest_rate(fd: int, code: int, wh_px: tuple[int, int], ioctl: Ioctl) -> float | None:
    rates = []
    asked = struct.pack("=III", code, *wh_px)
    for answer in _ask(fd, _ENUM_FRAMEINTERVALS, 52, asked, ioctl):
        kind, numerator, denominator = struct.unpack_from("=3I", answer, 16)
        if numerator:  # seconds a frame; of a range the shortest comes first
            rates.append(round(denominator / numerator, 3))
        if kind != _DISCRETE:
            break
    return max(rates, default=None)


def _ask(fd: int, request: int, size: int, asked: bytes, ioctl: Ioctl) -> Iterator[bytearray]:
    """The answers to one question after another, until the driver has no more."""
    with suppress(OSError):
        for index in range(_MOST):
            answer = bytearray(size)
            answer[: 4 + len(asked)] = struct.pack("=I", index) + asked
            ioctl(fd, request, answer)
            yield answer
