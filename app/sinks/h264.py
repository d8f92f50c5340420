"""How do BGR frames become an H.264 file that plays even if its recording was cut short?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
TICKS = 90_000  # a second's, in time stamps
KEYFRAME_S = 1.0  # at most about this much is lost when the process dies or the disk is full
MAX_SIDE_PX = 16384  # libx264's
# Measured on two clips (720p and 432p): superfast with zerolatency costs 5 ms of one core a 720p
# frame, every frame alike, and holds no frame back. veryfast saves a third of the bytes but costs
# 8 ms with peaks of 11; ultrafast costs 3.5 ms for a third more bytes.
ENCODER = {"preset": "superfast", "tune": "zerolatency", "crf": "25", "forced-idr": "1"}
# Written through to the file fragment by fragment, each complete in itself: there is no index at
# the end that a crash or a full disk could lose.
CONTAINERS = {
    "mp4": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    "mov": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
    "matroska": {"cluster_time_limit": "1000", "flush_packets": "1"},
}


def why_no_encoder() -> str | None:
    """What is missing to encode, or None."""
    try:
        import av

        av.codec.Codec("libx264", "w")
    except (ImportError, ValueError) as error:
        return f"PyAV with the libx264 encoder is needed ({error}); pip install 'av>=14'"
    return None


class H264Writer:
    """Writes one file; the size is fixed, (width, height), both even.

    Every method raises OSError where the file cannot be written, ValueError where libav refuses.
    """

    def __init__(self, path: Path, wh_px: tuple[int, int], fps: float) -> None:
        import av

        if max(wh_px) > MAX_SIDE_PX:
            raise ValueError(
                f"frames of {wh_px[0]}x{wh_px[1]} px; H.264 takes {MAX_SIDE_PX} each way at most"
            )
        kind = FORMATS[path.suffix.lower()]
        # "file:", or a name with a colon in it would be taken for a protocol
        with _plain_errors():
            self._container: Any = av.open(
                f"file:{path}", "w", format=kind, options=CONTAINERS[kind]
            )
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = self._container.add_stream("libx264", rate=rate, options=ENCODER)
        stream.width, stream.height = wh_px
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # inference needs the other cores
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.gop_size = 10_000  # keyframes come by the clock instead, see below
        context.colorspace, context.color_range = 6, 1  # BT.601, limited: what cvtColor computes
        self._stream = stream
        self._yuv = np.empty((wh_px[1] * 3 // 2, wh_px[0]), np.uint8)
        self._clock = _Clock(fps)
        self._next_keyframe = 0

    def write(self, pixels: NDArray[np.uint8], time_ns: int) -> None:
        """Encode (H, W, 3) uint8 BGR as it was at ``time_ns``, on any clock."""
        from av.video.frame import PictureType, VideoFrame

        cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420, dst=self._yuv)
        picture: Any = VideoFrame.from_ndarray(self._yuv, format="yuv420p")
        picture.pts, picture.time_base = self._clock.ticks(time_ns), Fraction(1, TICKS)
        if picture.pts >= self._next_keyframe:
            picture.pict_type = PictureType.I
            self._next_keyframe = picture.pts + round(KEYFRAME_S * TICKS)
        with _plain_errors():
            self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        try:
            with _plain_errors():
                self._container.mux(self._stream.encode(None))
        except (OSError, ValueError):
            self.abandon()
            raise
        with _plain_errors():
            self._container.close()

    def abandon(self) -> None:
        """Let go after a fault; never raises."""
        with suppress(OSError, ValueError), _plain_errors():  # the end cannot be written either
            self._container.close()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Some of libav's errors, an external library's for one, are neither OSError nor ValueError."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        if isinstance(error, (OSError, ValueError)):
            raise
        raise ValueError(str(error)) from error


class _Clock:
    """Time stamps from 0 on, strictly rising, also when a looped clip starts again."""

    def __init__(self, fps: float) -> None:
        self._step = max(1, round(TICKS / fps))
        self._offset: int | None = None
        self._last = -1

    def ticks(self, time_ns: int) -> int:
        at = time_ns * TICKS // 1_000_000_000
        if self._offset is None:
            self._offset = -at
        elif at + self._offset <= self._last:
            self._offset = self._last + self._step - at
        self._last = at + self._offset
        return self._last
