"""What sources share: options, media clock and pace, quiet OpenCV, the list of cameras."""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..config import MotionOptions
from ..core.errors import ConfigError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Seekable

log = logging.getLogger(__name__)

OLDEST_OPENCV = (4, 5)


@functools.cache
def load_cv2() -> Any:
    """The cv2 module, with its and FFmpeg's own messages off unless the environment asks for them.

    What they would say is noise to a user; each source says in one line what went wrong.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    wanted = os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    if tuple(map(int, cv2.__version__.split(".")[:2])) < OLDEST_OPENCV:
        raise ConfigError(
            f"OpenCV {cv2.__version__} is too old; {'.'.join(map(str, OLDEST_OPENCV))} or newer is "
            "needed: pip install --upgrade opencv-python-headless"
        )
    if wanted == "SILENT":  # somebody may have imported cv2 before the variable was set
        # OpenCV 4 has cv2.setLogLevel, OpenCV 5 only cv2.utils.logging.
        home: Any = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
        home.setLogLevel(0)
    return cv2


@functools.cache
def load_av() -> Any:
    """The av module (PyAV), with FFmpeg's own messages off unless this log is at DEBUG.

    Imported when the first source needs it: that takes a tenth of a second.
    """
    import av

    if log.isEnabledFor(logging.DEBUG):
        # straight to stderr: through Python's logging FFmpeg's threads would wait for the GIL
        av.logging.restore_default_callback()
    else:
        av.logging.set_level(None)
    return av


def to_bgr(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, C-contiguous, from gray, BGRA or 16-bit pixels; BGR passes untouched."""
    cv2 = load_cv2()
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    elif pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def cameras(dev: Path = Path("/dev")) -> list[int]:
    """Numbers of the V4L2 devices, rising. Some may be metadata devices of another's camera."""
    names = (re.fullmatch(r"video(\d+)", path.name) for path in dev.glob("video*"))
    return sorted(int(name[1]) for name in names if name)


def first_camera(dev: Path = Path("/dev")) -> str | None:
    """URI of the first camera, None if there is none."""
    numbers = cameras(dev)
    return f"camera:{numbers[0]}" if numbers else None


def stable_name(number: int, dev: Path = Path("/dev")) -> Path | None:
    """The name that a camera keeps when it is plugged in again, and may get another number."""
    for link in sorted(dev.glob("v4l/by-id/*")):
        if link.resolve() == (dev / f"video{number}").resolve():
            return link
    return None


def fourcc_of(cap: Any) -> str:
    """The four characters of a cv2.VideoCapture's codec or format."""
    code = int(cap.get(load_cv2().CAP_PROP_FOURCC)) & 0xFFFFFFFF
    return code.to_bytes(4, "little").decode("latin-1").strip("\0 ")


DEFAULT_FPS = 25.0


def usable_fps(fps: float) -> float | None:
    """The rate if it can be one; containers without a rate give 0, NaN or their time base."""
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else None


class MediaClock:
    """Turns reported positions into rising nanoseconds that start at 0.

    From the first position on that does not rise (some AVI files), or is not told, every frame
    counts one period: a frame's place must never depend on when it was decoded.
    """

    def __init__(self, *, fps: float | None, label: str) -> None:
        self.period_ns = round(1e9 / (fps or DEFAULT_FPS))
        self._label = label
        self.restart()

    def restart(self) -> None:
        """The next frame is the recording's first."""
        self.origin_ns: int | None = None  # the first frame's position; None before it
        self.trusted = True  # False: positions are of no use, frames are counted
        self._last_ns = -1

    def jump(self) -> None:
        """The next frame may lie anywhere. Only while positions are trusted."""
        self._last_ns = -1

    def place(self, position_ns: int | None) -> int:
        """media_ns of the next frame in order, given its reported position."""
        if self.origin_ns is None:
            self.origin_ns, self.trusted = position_ns or 0, position_ns is not None
            self._last_ns = 0
            return 0
        place_ns = -1
        if self.trusted and position_ns is not None:
            place_ns = position_ns - self.origin_ns
        if place_ns <= self._last_ns:
            if self.trusted:
                log.debug("%s: positions do not rise; going on by the frame rate", self._label)
            self.trusted = False
            place_ns = self._last_ns + self.period_ns
        self._last_ns = place_ns
        return place_ns


MAX_LATE_NS = 500_000_000  # later than that, the clock restarts: no burst to catch up


class Paced:
    """Holds each frame of a recording until it is due; a live source passes untouched.

    The first frame starts the clock. Small lateness is caught up, so that the clip keeps its
    length; after a long one (the machine slept, decoding is too slow) the clock starts again.
    """

    def __init__(
        self,
        inner: FrameSource,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.inner = inner
        self._now_ns = now_ns
        self._sleep = sleep
        self._held: Frame | None = None
        self._origin_ns: int | None = None  # the moment at which position 0 was, or would be, due
        self._speed = 1.0

    @property
    def speed(self) -> float:
        """See interfaces.Paceable."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed, self._origin_ns = speed, None

    def open(self) -> SourceInfo:
        """Open the recording; it counts as live from here on."""
        return replace(self.inner.open(), live=True)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame once it is due, stamped as captured now; None if not due in time."""
        deadline_ns = self._now_ns() + round(timeout_s * 1e9)
        if self._held is None:
            self._held = self.inner.read(timeout_s)
        frame = self._held
        if frame is None:
            return None
        if frame.media_ns is None:
            self._held = None
            return frame
        now_ns = self._now_ns()
        place_ns = round(frame.media_ns / self._speed)
        if self._origin_ns is None or now_ns - self._origin_ns - place_ns > MAX_LATE_NS:
            self._origin_ns = now_ns - place_ns
        due_ns = self._origin_ns + place_ns
        if due_ns > now_ns:
            self._sleep(max(0, min(due_ns, deadline_ns) - now_ns) / 1e9)
            if due_ns > deadline_ns:
                return None
        self._held = None
        return replace(frame, captured_ns=self._now_ns())

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return isinstance(self.inner, Seekable) and self.inner.can_seek

    def seek(self, media_ns: int) -> None:
        """Go on from there; the clock starts again."""
        if isinstance(self.inner, Seekable):
            self.inner.seek(media_ns)
        self._held = self._origin_ns = None

    def close(self) -> None:
        """Close the recording."""
        self._held = None
        self.inner.close()


RtspTransport = Literal["auto", "tcp", "udp"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What all sources share; each ignores what does not concern it."""

    open_timeout_s: float = 10.0
    read_timeout_s: float = 10.0  # a stream that gives no frame for so long is lost
    decode_threads: int | None = None  # None: chosen by the cores this process may use
    raw: bool = False  # cameras hand over YUYV and NV12 as they are, where they give these
    rtsp_transport: RtspTransport = "auto"  # TCP first; UDP loses packets rather than time
    deinterlace: bool = False  # of interlaced pictures; else their two moments stay woven
    max_megapixels: float = 64.0  # larger pictures are refused
    ca_file: str | None = None  # authorities to trust; None: the system's
    tls_insecure: bool = False  # trust anybody
    poll_s: float = 1.0  # between two requests for a still picture
    decode: str = "cpu"  # one of hardware.HOWS
    packets_only: bool = False  # nothing is decoded: a frame without a picture tells of each packet
    playlist: bool = False  # what the address gives is HLS, whatever its name
    motion: MotionOptions | None = None  # None: all frames are given
    # polygons in which motion does not count, in parts of the frame, or (True) in pixels
    still: tuple[tuple[bool, tuple[tuple[float, float], ...]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("open_timeout_s", "read_timeout_s", "max_megapixels"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, is {getattr(self, name)}")
        if self.decode_threads is not None and self.decode_threads < 1:
            raise ConfigError(f"decode_threads must be at least 1, is {self.decode_threads}")

    @property
    def max_pixels(self) -> int:
        """The largest picture that is decoded."""
        return round(self.max_megapixels * 1e6)

    def threads(self) -> int:
        """Decoder threads: as asked for, else one core is left to inference, at most 4."""
        if self.decode_threads is not None:
            return self.decode_threads
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
        return max(1, min(4, cores - 1))
