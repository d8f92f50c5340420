"""What does a V4L2 device offer? Asked of the driver, without opening a stream.

Request codes and layouts: linux/videodev2.h. The structures hold no pointers, so they are the same
on 32 and 64 bits.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

QUERYCAP = 0x80685600  # _IOR('V', 0, v4l2_capability)
ENUM_FMT = 0xC0405602  # _IOWR('V', 2, v4l2_fmtdesc)
ENUM_FRAMESIZES = 0xC02C564A  # _IOWR('V', 74, v4l2_frmsizeenum)
CAPABILITY = struct.Struct("16s32s32sIII12x")
FORMAT = struct.Struct("III32sII12x")
FRAME_SIZE = struct.Struct("III6I8x")
CAPTURE, CAPTURE_MPLANE = 0x1, 0x1000  # capabilities
BUFFER_TYPES = {CAPTURE: 1, CAPTURE_MPLANE: 9}
DISCRETE = 1
MOST = 64  # of formats, and of sizes of one: a driver that never ends is cut off

Ioctl = Callable[[int, int, bytearray], int]


@dataclass(frozen=True, slots=True)
class CameraFormats:
    """``formats``: four-character code to sizes (width, height), in the driver's order."""

    name: str
    bus: str
    formats: dict[str, list[tuple[int, int]]]


def _ioctl(fd: int, request: int, data: bytearray) -> int:
    return int(fcntl.ioctl(fd, request, data, True))


def camera_formats(path: Path, *, ioctl: Ioctl = _ioctl) -> CameraFormats | None:
    """None for a device that gives no frames (a camera's metadata). Raises OSError."""
    with _opened(path) as fd:
        data = bytearray(CAPABILITY.size)
        ioctl(fd, QUERYCAP, data)
        _, card, bus, _, all_caps, own_caps = CAPABILITY.unpack(data)
        caps = own_caps or all_caps
        kind = next((kind for bit, kind in BUFFER_TYPES.items() if caps & bit), None)
        if kind is None:
            return None
        formats = {code: _sizes(fd, code, ioctl) for code in _codes(fd, kind, ioctl)}
        return CameraFormats(_text(card), _text(bus), formats)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _codes(fd: int, kind: int, ioctl: Ioctl) -> list[str]:
    codes = []
    for index in range(MOST):
        data = bytearray(FORMAT.pack(index, kind, 0, b"", 0, 0))
        if not _answered(ioctl, fd, ENUM_FMT, data):
            break
        codes.append(FORMAT.unpack(data)[4].to_bytes(4, "little").decode("latin-1").strip("\0 "))
    return codes


def _sizes(fd: int, code: str, ioctl: Ioctl) -> list[tuple[int, int]]:
    """Every size, or, of a driver that scales, the smallest and the largest."""
    number = int.from_bytes(code.ljust(4).encode("latin-1"), "little")
    sizes: list[tuple[int, int]] = []
    for index in range(MOST):
        data = bytearray(FRAME_SIZE.pack(index, number, 0, *[0] * 6))
        if not _answered(ioctl, fd, ENUM_FRAMESIZES, data):
            break
        _, _, kind, *numbers = FRAME_SIZE.unpack(data)
        if kind != DISCRETE:  # smallest width, largest, step, the same of the height
            return [(numbers[0], numbers[3]), (numbers[1], numbers[4])]
        sizes.append((numbers[0], numbers[1]))
    return sizes


def _answered(ioctl: Ioctl, fd: int, request: int, data: bytearray) -> bool:
    """False at the end of a list, and where the driver cannot list."""
    try:
        ioctl(fd, request, data)
    except OSError as fault:
        if fault.errno in (errno.EINVAL, errno.ENOTTY):
            return False
        raise
    return True


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")
