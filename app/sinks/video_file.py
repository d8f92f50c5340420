"""How do results become an annotated video?"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from app.detections import Result
from app.errors import ConfigError, SinkError
from app.frame import SourceInfo
from app.overlay import bgr_pixels
from app.sinks.drawing import draw_detections
from app.sinks.h264 import FORMATS, H264Writer, why_no_encoder
from app.sinks.output_file import cure, open_output
from app.sinks.salvage import whole_part, why_not_more

log = logging.getLogger(__name__)

DEFAULT_FPS = 30.0


class VideoFileSink:
    """H.264 with everything drawn in, in .mp4, .mov or .mkv; time stamps are those of the frames.

    The first frame sets the size; frames of another size are letterboxed into it. No frames, no
    file: an earlier recording of that name is replaced by the first frame only. ``fps`` is a hint
    for players; None takes the source's.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() not in FORMATS:
            raise ConfigError(
                f"cannot record to {self._path}: the name must end in one of {', '.join(FORMATS)}"
            )
        self._asked_fps, self._fps = fps, DEFAULT_FPS
        self._labels: Sequence[str] = ()
        self._open = self._made_file = False
        self._earlier: tuple[int, ...] | None = None  # what marks the file of an earlier recording
        self._writer: H264Writer | None = None
        self._canvas: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._frames = 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Check that the file can be written and the encoder is there; else SinkError."""
        self._labels = labels
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
        open_output(self._path, truncate=False).close()
        self._open, self._made_file, self._earlier = True, not existed, self._mark()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable; frames of another size are letterboxed."""
        self._labels = labels

    def emit(self, result: Result) -> None:
        """Draw on a copy, encode and write; raises SinkError when the disk is full."""
        if not self._open:
            return
        frame, pixels = result.frame, bgr_pixels(result.frame)
        try:
            if self._writer is None:
                # H.264 in 4:2:0 has even sizes only: an odd last row or column is doubled
                width, height = (pixels.shape[1] + 1) // 2 * 2, (pixels.shape[0] + 1) // 2 * 2
                self._canvas = np.zeros((height, width, 3), np.uint8)
                self._writer = H264Writer(self._path, (width, height), self._fps)
            self._draw(pixels, result)
            self._writer.write(
                self._canvas, frame.captured_ns if frame.media_ns is None else frame.media_ns
            )
        except (OSError, ValueError) as error:
            raise self._stopped(error) from error
        self._frames += 1

    def close(self) -> None:
        """Write the end of the file; raises SinkError if that fails. No frames: no file."""
        if not self._open:
            return
        self._open = False
        if self._writer is None:
            self._remove_if_made()
            return
        try:
            self._writer.close()
            if self._torn():
                raise why_not_more(self._path)
        except (OSError, ValueError) as error:
            raise self._stopped(error) from error
        self._writer = None
        log.info("recorded %d frames to %s", self._frames, self._path)

    def _draw(self, pixels: NDArray[np.uint8], result: Result) -> None:
        """Fill the canvas; the frame itself belongs to all sinks and stays as it is."""
        canvas = self._canvas
        height, width = pixels.shape[:2]
        if (height + height % 2, width + width % 2) != canvas.shape[:2]:
            pixels = pixels.copy()
            draw_detections(pixels, result.detections, self._labels)
            _fit(pixels, canvas)
            return
        inner = canvas[:height, :width]
        np.copyto(inner, pixels)
        draw_detections(inner, result.detections, self._labels)
        canvas[height:] = canvas[height - 1 : height]
        canvas[:, width:] = canvas[:, width - 1 : width]

    def _stopped(self, error: Exception) -> SinkError:
        """Let go of everything and say what is left."""
        if self._writer is not None:
            self._writer.abandon()
        self._writer, self._open = None, False
        why = cure(error, self._path) if isinstance(error, OSError) else f"libav refused: {error}"
        if self._mark() == self._earlier:  # not begun: an earlier recording is still whole
            self._remove_if_made()
            return SinkError(f"cannot record to {self._path}: {why}")
        try:
            end, kept = whole_part(self._path)
            if kept:
                os.truncate(self._path, end)
        except OSError as fault:
            kept_text = f"what plays of it could not be told ({fault.strerror})"
        else:
            kept_text = f"the first {kept} of them stay playable"
            if not kept:
                self._remove()
                kept_text = "none of them was written whole, so the file is removed"
        return SinkError(
            f"recording to {self._path} stopped after {self._frames} frames: {why}; {kept_text}"
        )

    def _torn(self) -> bool:
        """Whether frames are missing in the closed file: libav does not tell of a torn end."""
        try:
            return whole_part(self._path)[1] < self._frames
        except FileNotFoundError:  # somebody moved it while it grew, which harms nothing
            return False

    def _mark(self) -> tuple[int, ...] | None:
        """Differs once something was written."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _remove_if_made(self) -> None:
        if self._made_file:
            self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.resolve().unlink()  # a link to it is the user's own


def _kind(path: Path) -> str:
    """What a path is that is no regular file."""
    mode = path.stat().st_mode
    kinds = {"pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((name for name, is_one in kinds.items() if is_one(mode)), "device")


def _fit(pixels: NDArray[np.uint8], canvas: NDArray[np.uint8]) -> None:
    """Letterbox, centred on black."""
    height, width = canvas.shape[:2]
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    fit_w, fit_h = max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale))
    x0, y0 = (width - fit_w) // 2, (height - fit_h) // 2
    canvas[:] = 0
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[y0 : y0 + fit_h, x0 : x0 + fit_w] = cv2.resize(
        pixels, (fit_w, fit_h), interpolation=method
    )
