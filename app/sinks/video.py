"""Annotated video: detections drawn, encoded as H.264 that survives being cut short."""

from __future__ import annotations

import io
import logging
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.detections import Result
from ..core.errors import ConfigError, SinkError
from ..core.frame import SourceInfo, bgr_pixels
from ..core.letterbox import place
from .drawing import draw_result
from .json_lines import LinesFile, ResultEncoder, open_output, unwritable
from .salvage import is_torn, keep_whole, why_not_more

log = logging.getLogger(__name__)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR as the bytes of a JPEG file, (N,) uint8; ``quality`` is 0..100."""
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise SinkError("a frame could not be encoded as JPEG")
    return np.asarray(jpeg, np.uint8)


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
        with plain_errors():
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

    def write(self, pixels: NDArray[np.uint8], time_ns: int) -> float:
        """Encode (H, W, 3) uint8 BGR as it was at ``time_ns``, on any clock.

        Returns its place in the video in ms.
        """
        from av.video.frame import PictureType, VideoFrame

        cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420, dst=self._yuv)
        picture: Any = VideoFrame.from_ndarray(self._yuv, format="yuv420p")
        picture.pts, picture.time_base = self._clock.ticks(time_ns), Fraction(1, TICKS)
        if picture.pts >= self._next_keyframe:
            picture.pict_type = PictureType.I
            self._next_keyframe = picture.pts + round(KEYFRAME_S * TICKS)
        with plain_errors():
            self._container.mux(self._stream.encode(picture))
        return float(round(picture.pts * 1000 / TICKS, 3))

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        try:
            with plain_errors():
                self._container.mux(self._stream.encode(None))
        except (OSError, ValueError):
            self.abandon()
            raise
        with plain_errors():
            self._container.close()

    def abandon(self) -> None:
        """Let go after a fault; never raises."""
        with suppress(OSError, ValueError), plain_errors():  # the end cannot be written either
            self._container.close()


@contextmanager
def plain_errors() -> Iterator[None]:
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


class BoxesBeside:
    """``NAME.jsonl`` beside a video: the lines of --json, with ``at_ms``, the place in the video.

    Opened with its first line. Raises SinkError as LinesFile does.
    """

    def __init__(self, video: Path, *, overwrite: bool) -> None:
        self._file = LinesFile(str(video.with_suffix(".jsonl")), overwrite=overwrite)
        self._line = ResultEncoder()
        self._open = False

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._line.open(source, labels)

    def write(self, result: Result, at_ms: float) -> None:
        if not self._open:
            self._file.open()
            self._open = True
        self._file.write(f'{self._line(result)[:-1]}, "at_ms": {at_ms}}}')

    def close(self) -> None:
        if self._open:
            self._open = False
            self._file.close()


class LostFrames:
    """Which frames of a source were captured and not recorded: gaps in their numbers."""

    MOST = 8  # gaps that are named

    def __init__(self) -> None:
        self._next: int | None = None
        self._count = self._gaps = 0
        self._named: list[str] = []

    def look(self, index: int) -> None:
        if self._next is not None and index > self._next:
            self._count += index - self._next
            self._gaps += 1
            if self._gaps <= self.MOST:
                last = f"-{index - 1}" if index - 1 > self._next else ""
                self._named.append(f"{self._next}{last}")
        self._next = index + 1

    def __str__(self) -> str:
        """Of the log; "" where none is missing."""
        if not self._count:
            return ""
        more = ", …" if self._gaps > self.MOST else ""
        return f"; {self._count} that were captured are missing: {', '.join(self._named)}{more}"


DEFAULT_FPS = 30.0


class VideoFileSink:
    """H.264 with everything drawn in, in .mp4, .mov or .mkv; time stamps are those of the frames.

    Not where ``draw`` is False; ``beside`` writes the boxes into BoxesBeside.

    The first frame sets the size; frames of another size are letterboxed into it. No frames, no
    file: an earlier recording of that name is replaced by the first frame only, and, unless
    ``overwrite``, never. ``fps`` is a hint for players; None takes the source's.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | None = None,
        *,
        draw: bool = True,
        beside: bool = False,
        overwrite: bool = True,
    ) -> None:
        self._path, self._overwrite, self._draws = Path(path), overwrite, draw
        self._beside = BoxesBeside(self._path, overwrite=overwrite) if beside else None
        self._lost = LostFrames()
        if self._path.suffix.lower() not in FORMATS:
            raise ConfigError(
                f"cannot record to {self._path}: the name must end in one of {', '.join(FORMATS)}"
            )
        self._asked_fps, self._fps = fps, DEFAULT_FPS
        self._claim: io.FileIO | None = None  # keeps other runs from the file
        self._labels: Sequence[str] = ()
        self._open = self._made_file = False
        self._earlier: tuple[int, ...] | None = None  # what marks the file of an earlier recording
        self._writer: H264Writer | None = None
        self._canvas: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._frames = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Check that the file can be written and the encoder is there; else SinkError."""
        self._labels = labels
        if self._beside is not None:
            self._beside.update(source, labels)
        self._fps = min(max(self._asked_fps or source.fps or DEFAULT_FPS, 1.0), 240.0)
        missing = why_no_encoder()
        if missing:
            raise SinkError(f"cannot record to {self._path}: {missing}")
        existed = self._path.exists()
        if existed and not (self._path.is_file() or self._path.is_dir()):
            raise SinkError(
                f"cannot record to {self._path}: it is a {_kind(self._path)}, and a video needs a "
                "regular file; name another one"
            )
        self._claim = open_output(self._path, truncate=False, overwrite=self._overwrite)
        self._open, self._made_file, self._earlier = True, not existed, self._mark()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable; frames of another size are letterboxed."""
        self._labels = labels
        if self._beside is not None:
            self._beside.update(source, labels)

    def emit(self, result: Result) -> None:
        """Draw on a copy, encode and write; raises SinkError when the disk is full."""
        if not self._open:
            return
        pixels = bgr_pixels(result.frame)
        try:
            if self._writer is None:
                # H.264 in 4:2:0 has even sizes only: an odd last row or column is doubled
                width, height = (pixels.shape[1] + 1) // 2 * 2, (pixels.shape[0] + 1) // 2 * 2
                self._canvas = np.zeros((height, width, 3), np.uint8)
                self._writer = H264Writer(self._path, (width, height), self._fps)
            self._draw(pixels, result)
            at_ms = self._writer.write(self._canvas, result.frame.time_ns)
        except (OSError, ValueError) as error:
            raise self._stopped(error) from error
        self._frames += 1
        self._lost.look(result.frame.index)
        if self._beside is not None:
            self._beside.write(result, at_ms)

    def close(self) -> None:
        """Write the end of the file; raises SinkError if that fails. No frames: no file."""
        if not self._open:
            return
        self._open = False
        if self._writer is None:
            self._remove_if_made()
            self._release()
            return
        try:
            self._writer.close()
            if is_torn(self._path, self._frames):
                raise why_not_more(self._path)
        except (OSError, ValueError) as error:
            raise self._stopped(error) from error
        self._writer = None
        self._release()
        log.info("recorded %d frames to %s%s", self._frames, self._path, self._lost)

    def _draw(self, pixels: NDArray[np.uint8], result: Result) -> None:
        """Fill the canvas; the frame itself belongs to all sinks and stays as it is."""
        canvas = self._canvas
        height, width = pixels.shape[:2]
        if (height + height % 2, width + width % 2) != canvas.shape[:2]:
            if self._draws:
                pixels = pixels.copy()
                draw_result(pixels, result, self._labels)
            _fit(pixels, canvas)
            return
        inner = canvas[:height, :width]
        np.copyto(inner, pixels)
        if self._draws:
            draw_result(inner, result, self._labels)
        canvas[height:] = canvas[height - 1 : height]
        canvas[:, width:] = canvas[:, width - 1 : width]

    def _stopped(self, error: Exception) -> SinkError:
        """Let go of everything and say what is left."""
        if self._writer is not None:
            self._writer.abandon()
        self._writer, self._open = None, False
        self._release()
        if self._mark() == self._earlier:  # not begun: an earlier recording is still whole
            self._remove_if_made()
            return self._fault(f"cannot record to {self._path}", error)
        what = f"recording to {self._path} stopped after {self._frames} frames"
        return self._fault(what, error, f"; {keep_whole(self._path)}")

    def _fault(self, what: str, error: Exception, end: str = "") -> SinkError:
        if isinstance(error, OSError):
            return unwritable(what, error, self._path, end)
        return SinkError(f"{what}: libav refused: {error}{end}")

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.close()
            self._claim = None
        if self._beside is not None:
            self._beside.close()

    def _mark(self) -> tuple[int, ...] | None:
        """Differs once something was written."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _remove_if_made(self) -> None:
        if self._made_file:
            with suppress(OSError):
                self._path.resolve().unlink()  # a link to it is the user's own


def _kind(path: Path) -> str:
    """What a path is that is no regular file."""
    mode = path.stat().st_mode
    kinds = {"pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((name for name, is_one in kinds.items() if is_one(mode)), "device")


def _fit(pixels: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> None:
    """Letterbox, centred on black."""
    at = place((pixels.shape[1], pixels.shape[0]), (canvas.shape[1], canvas.shape[0]))
    method = cv2.INTER_AREA if at.w < pixels.shape[1] else cv2.INTER_LINEAR
    canvas[:] = 0
    canvas[at.y : at.y + at.h, at.x : at.x + at.w] = cv2.resize(
        pixels, (at.w, at.h), interpolation=method
    )
