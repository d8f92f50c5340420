"""Video files and network streams (FFmpeg through OpenCV)."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, FramePool, SourceInfo
from ..core.schemes import is_network
from .base import MediaClock, SourceOptions, fourcc_of, load_cv2, to_bgr, usable_fps
from .diagnose import (
    ContainerFacts,
    check_name,
    look_into,
    no_frame,
    unreachable,
    unreadable_file,
)
from .protocols import certificate_fault, ffmpeg_options

log = logging.getLogger(__name__)

# A damaged packet makes one read fail and the next succeed, so only a row of failures is an end.
FAILURES_THAT_END = 64
# OpenCV hands options to FFmpeg through this variable only, which is the whole process's.
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_environment = threading.Lock()


class FfmpegSource:
    """Frames of a file (``remote`` False) or a URL, in order, each once.

    RTSP is live. HTTP is live unless the container knows how many frames it has. A live source
    that ends is a fault; a recording that ends early is one too, after its last good frame.
    """

    def __init__(self, where: str, *, label: str, remote: bool, options: SourceOptions) -> None:
        self._where = where if remote else str(Path(where).absolute())  # a colon is no scheme here
        self._label = label
        self._remote = remote
        self._options = options
        self._cap: Any = None
        self._pool = FramePool()
        self._shape: tuple[int, ...] = ()
        self._index = 0
        self._damaged = 0
        self._media_ns = 0
        self._ended = self._sought = False

    def open(self) -> SourceInfo:
        """Open file or stream; raises SourceError with the cure."""
        check_name(self._where, self._label)
        self._cap = self._open_capture()
        info = self._describe()
        width_px, height_px = info.wh_px or (0, 0)
        self._shape = (height_px, width_px, 3)
        self._info = info
        self._clock = MediaClock(fps=info.fps, label=self._label)
        return info

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame. FFmpeg bounds its wait itself, by ``read_timeout_s``."""
        if self._ended:
            raise SourceEnded
        pixels = self._next_pixels()
        if pixels is None:
            self._finish()
        captured_ns = time.monotonic_ns()
        media_ns: int | None = None
        if not self._info.live:
            position_ms = self._cap.get(load_cv2().CAP_PROP_POS_MSEC)  # of the frame just read
            media_ns = self._media_ns = self._clock.place(position_ms)
        self._index += 1
        return Frame(pixels, self._index - 1, captured_ns, media_ns)

    @property
    def can_seek(self) -> bool:
        """See interfaces.Seekable."""
        return not self._remote and self._cap is not None

    def seek(self, media_ns: int) -> None:
        """See interfaces.Seekable; FFmpeg decodes on from the key frame before."""
        cap_ms = self._clock.position_ms(media_ns)
        self._cap.set(load_cv2().CAP_PROP_POS_MSEC, cap_ms)
        self._clock.jump(media_ns)
        self._sought = True

    def close(self) -> None:
        """Close file or connection."""
        if self._cap is not None:
            self._cap.release()
            self._cap = None
        self._ended = True

    def _open_capture(self) -> Any:
        cv2 = load_cv2()
        options = self._options
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: round(options.open_timeout_s * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: round(options.read_timeout_s * 1000),
            cv2.CAP_PROP_N_THREADS: options.threads(),
        }
        started_s = time.monotonic()
        flat = [number for pair in settings.items() for number in pair]
        with _ffmpeg_options(self._where, options):
            cap = cv2.VideoCapture(self._where, cv2.CAP_FFMPEG, flat)
        if cap.isOpened():
            return cap
        cap.release()
        if not self._remote:
            raise unreadable_file(Path(self._where), self._label)
        waited_s = time.monotonic() - started_s
        limit_s = options.open_timeout_s
        fault = certificate_fault(self._where, options)
        if fault is not None:
            raise SourceError(f"cannot open {self._label}: {fault}")
        raise unreachable(self._where, self._label, waited_s=waited_s, limit_s=limit_s)

    def _describe(self) -> SourceInfo:
        cv2, cap = load_cv2(), self._cap
        width_px = int(cap.get(cv2.CAP_PROP_FRAME_WIDTH))
        height_px = int(cap.get(cv2.CAP_PROP_FRAME_HEIGHT))
        count = int(cap.get(cv2.CAP_PROP_FRAME_COUNT))
        scheme = urlsplit(self._where).scheme if self._remote else ""
        live = scheme.startswith("rtsp") or (self._remote and count <= 0)
        return SourceInfo(
            uri=self._label,
            live=live,
            wh_px=(width_px, height_px) if width_px > 0 and height_px > 0 else None,
            fps=usable_fps(cap.get(cv2.CAP_PROP_FPS)),
            frame_count=count if count > 0 and not live else None,
            detail=f"FFmpeg, {fourcc_of(cap)}, decoder threads: {self._options.threads()}",
        )

    def _next_pixels(self) -> NDArray[np.uint8] | None:
        """The next frame's pixels in a recycled buffer, or None at the end."""
        started_s = time.monotonic()
        for failures in range(FAILURES_THAT_END):
            try:
                # OpenCV writes in place where the buffer fits, else it answers with another array.
                buffer = self._pool.acquire(self._shape)
                ok, pixels = self._cap.read(buffer)
            except load_cv2().error as error:
                raise SourceError(f"{self._label}: decoding failed ({error})") from error
            if ok:
                self._shape = (*pixels.shape[:2], 3)
                if failures:
                    self._note_damage(failures)
                return buffer if pixels is buffer else to_bgr(pixels)
            limit_s = self._options.read_timeout_s
            if self._remote and time.monotonic() - started_s > 0.9 * limit_s:
                raise no_frame(self._label, limit_s)
        return None

    def _note_damage(self, failures: int) -> None:
        level = logging.DEBUG if self._damaged else logging.WARNING
        log.log(level, "%s: damaged near frame %d; going on", self._label, self._index)
        self._damaged += failures

    def _finish(self) -> NoReturn:
        self._ended = True
        if self._info.live:
            raise SourceError(
                f"{self._label} ended after {self._index} frames: the other side closed the "
                "connection; check that the device still streams"
            )
        if self._index == 0:
            raise SourceError(f"{self._label} has no frame that can be decoded: convert it to MP4")
        if self._sought:  # what was passed over is not missing
            raise SourceEnded
        raise self._cut_off() or SourceEnded

    def _cut_off(self) -> SourceError | None:
        """The error for a recording that ended before its time, None for a natural end."""
        facts = ContainerFacts() if self._remote else look_into(Path(self._where))
        count, fps = self._info.frame_count or 0, self._info.fps
        # Both must fall short: the count is a guess for variable rates, and counts frames that
        # a trimmed clip never shows.
        played_ns = self._media_ns + self._clock.period_ns
        promised_ns = (facts.video_s or (count / fps if fps else 0)) * 1e9
        slack_ns = max(self._clock.period_ns, 0.01 * promised_ns) + 1e6
        short = count - self._index > max(1, 0.01 * count) and promised_ns - played_ns > slack_ns
        if not short and (count or not facts.bytes_missing):
            return None
        missing = f", {facts.bytes_missing} bytes are missing" if facts.bytes_missing else ""
        frames = f"{self._index} of {count} frames" if count else f"{self._index} frames"
        return SourceError(
            f"{self._label} is broken or cut off: it ended after {frames}{missing}; "
            "copy or record it again"
        )


@contextmanager
def _ffmpeg_options(where: str, options: SourceOptions) -> Iterator[None]:
    """While this lasts a stream opens with what the network needs: transport, TLS, protocols.

    What the user has put into the variable stands.
    """
    if not is_network(where) or _FFMPEG_OPTIONS in os.environ:
        yield
        return
    told = ffmpeg_options(where, options)
    with _environment:
        os.environ[_FFMPEG_OPTIONS] = "|".join(f"{name};{value}" for name, value in told.items())
        try:
            yield
        finally:
            os.environ.pop(_FFMPEG_OPTIONS, None)
