"""Cameras of this machine, through V4L2 and OpenCV.

Asked of the kernel by the calls of linux/videodev2.h; the structures are those of its 64-bit form.
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError
from ..core.frame import Frame, FramePool, PixelFormat, SourceInfo
from .base import cameras, fourcc_of, load_cv2, to_bgr, usable_fps
from .diagnose import check_name

RAW: dict[str, PixelFormat] = {"YUYV": "yuyv", "NV12": "nv12"}
MAX_STAMP_AGE_NS = 5_000_000_000  # an older "kernel stamp" is on another clock


@dataclass(frozen=True, slots=True)
class CameraMode:
    """What to ask of the camera; None leaves it as the driver has it."""

    wh_px: tuple[int, int] | None = None
    fps: float | None = None
    fourcc: str | None = None  # "MJPG", "YUYV", …
    raw: bool = False  # YUYV and NV12 as they come: who preprocesses on the GPU converts there


def open_v4l2(device: int | str) -> Any:
    """A cv2.VideoCapture on a V4L2 device."""
    cv2 = load_cv2()
    return cv2.VideoCapture(device, cv2.CAP_V4L2)


class CameraSource:
    """Frames of a V4L2 camera. A read may block for 10 s when the camera is unplugged."""

    def __init__(
        self,
        device: int | str,
        *,
        label: str,
        mode: CameraMode | None = None,
        open_capture: Callable[[int | str], Any] = open_v4l2,
        dev: Path = Path("/dev"),
    ) -> None:
        self._device = device
        self._label = label
        self._mode = mode or CameraMode()
        self._open_capture = open_capture
        self._dev = dev
        self._cap: Any = None
        self._pool = FramePool()
        self._shape: tuple[int, ...] = ()
        self._format: PixelFormat = "bgr8"
        self._index = 0

    def open(self) -> SourceInfo:
        """Open the camera and ask for the mode; raises SourceError with the cure."""
        path = self._dev / f"video{self._device}" if isinstance(self._device, int) else None
        path = path or Path(str(self._device))
        if not path.exists():
            raise SourceError(f"there is no camera {path}: {_cameras_here(self._dev)}")
        if not os.access(path, os.R_OK | os.W_OK):
            raise SourceError(
                f"no permission to use {path}: add yourself to the video group "
                "(sudo usermod -aG video $USER) and log in again"
            )
        check_name(str(path), self._label)
        self._cap = self._open_capture(self._device)
        if not self._cap.isOpened():
            self.close()
            raise SourceError(
                f"{path} does not open as a camera: another program may be using it, or it is a "
                f"metadata device of the same camera; {_cameras_here(self._dev)}"
            )
        return self._configure()

    def _configure(self) -> SourceInfo:
        cv2, cap, mode = load_cv2(), self._cap, self._mode
        if mode.fourcc:  # first: it decides which sizes and rates there are
            cap.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*mode.fourcc))
        if mode.wh_px:
            cap.set(cv2.CAP_PROP_FRAME_WIDTH, mode.wh_px[0])
            cap.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.wh_px[1])
        if mode.fps:
            cap.set(cv2.CAP_PROP_FPS, mode.fps)
        # No queue of old frames: the capture thread drains the driver at once. But with one buffer
        # alone the driver has none to fill while a frame is taken, which can halve the rate.
        cap.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        width_px = int(cap.get(cv2.CAP_PROP_FRAME_WIDTH))
        height_px = int(cap.get(cv2.CAP_PROP_FRAME_HEIGHT))
        fps = usable_fps(cap.get(cv2.CAP_PROP_FPS))
        fourcc = fourcc_of(cap)
        rate = f" {fps:g} fps" if fps else ""
        detail = f"V4L2, {fourcc} {width_px}x{height_px}{rate}"
        if mode.wh_px and mode.wh_px != (width_px, height_px):
            detail += f" (asked for {mode.wh_px[0]}x{mode.wh_px[1]})"
        self._shape, self._format = (height_px, width_px, 3), "bgr8"
        if mode.raw and fourcc in RAW and cap.set(cv2.CAP_PROP_CONVERT_RGB, 0):
            self._format = RAW[fourcc]
            nv12 = (height_px * 3 // 2, width_px)
            self._shape = nv12 if self._format == "nv12" else (height_px, width_px, 2)
            detail += ", as it comes"
        return SourceInfo(self._label, True, (width_px, height_px), fps, None, detail)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, stamped by the kernel where the driver does so."""
        cv2 = load_cv2()
        ok, pixels = self._cap.read(self._pool.acquire(self._shape))
        now_ns = time.monotonic_ns()
        if not ok:
            raise SourceError(
                f"{self._label} gives no frames any more after {self._index}: "
                "check that it is plugged in, and its cable"
            )
        pixels = self._checked(pixels)
        stamp_ns = round(self._cap.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if not 0 <= now_ns - stamp_ns < MAX_STAMP_AGE_NS:
            stamp_ns = now_ns
        self._index += 1
        return Frame(pixels, self._index - 1, stamp_ns, format=self._format)

    def _checked(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """BGR of any size, or raw pixels of the size that the camera told."""
        if self._format == "bgr8":
            self._shape = (*pixels.shape[:2], 3)
            return to_bgr(pixels)
        if pixels.size != math.prod(self._shape):
            raise SourceError(
                f"{self._label} gives raw frames of {pixels.shape}, not {self._shape}: "
                "add raw=0 to the source"
            )
        return np.ascontiguousarray(pixels.reshape(self._shape), np.uint8)

    def close(self) -> None:
        """Let go of the camera."""
        if self._cap is not None:
            self._cap.release()
            self._cap = None


def _cameras_here(dev: Path) -> str:
    names = [str(dev / f"video{number}") for number in cameras(dev)]
    names += sorted(str(path) for path in dev.glob("v4l/by-id/*"))
    if not names:
        return (
            "there is no camera on this machine (no /dev/video*); plug one in and look at 'dmesg', "
            "or use --source sample: or pattern:"
        )
    return "here are " + ", ".join(names)


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
class CameraDevice:
    """A camera of this machine."""

    number: int
    name: str
    modes: tuple[Mode, ...] = ()

    @property
    def uri(self) -> str:
        """The source that it is."""
        return f"camera:{self.number}"


def list_cameras(dev: Path = Path("/dev"), ioctl: Ioctl = fcntl.ioctl) -> list[CameraDevice]:
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
            found.append(CameraDevice(number, str(path)))
            continue
        try:
            name = _name_of_camera(fd, ioctl)
            if name is not None:
                found.append(CameraDevice(number, name, tuple(_modes(fd, ioctl))))
        except OSError:
            found.append(CameraDevice(number, str(path)))
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
