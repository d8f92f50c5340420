"""Preprocessing on the CPU: a frame becomes the network's input tensor.

Resize, split into planes, look values up in a table: all into memory that is allocated once. A
pixel has 256 values, so (pixel × scale − mean) / std is a table of 256 floats a channel: one pass
writes the tensor, exactly rounded, however much normalisation a model wants. The padding is written
once, as frames of one size never touch it: of a 16:9 frame in a square that is 44 % of the tensor.

Of a YUV frame each plane is resized by itself, and colours are converted at the network's size: for
some ten thousand pixels instead of some million.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.frame import Frame, PixelFormat, planes, yuv_to_bgr
from ..core.letterbox import Placement, place
from ..models.manifest import InputSpec


class CpuPreprocessor:
    """For one slot: not to be shared between threads.

    A tensor that is given again is taken to hold its padding still; others must not write to it.
    """

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        # cv2.split writes B, G, R; into the planes' order it goes by reversing the targets
        self._order = (0, 1, 2) if spec.channels == "BGR" else (2, 1, 0)
        std = np.array(spec.std, np.float64)[:, None]
        values = np.arange(256) * spec.scale - np.array(spec.mean, np.float64)[:, None]
        self._tables = list((values / std).astype(np.float32))
        self._shape: tuple[tuple[int, int], float, PixelFormat] | None = None  # the last frame's
        self._tensor: NDArray[np.float32] | None = None  # the one that holds its padding

    def __call__(self, frame: Frame, tensor: NDArray[np.float32]) -> Placement:
        """Fill ``tensor`` (1, 3, H, W) float32; returns where the frame lies in it."""
        shape = frame.wh_px, frame.pixel_aspect, frame.format
        if shape != self._shape:
            self._prepare(frame)
            self._shape = shape
        if tensor is not self._tensor:
            self._take(tensor, self._placement)
        if self._reducer is None:
            _resize(frame.pixels, self._content)
        else:
            self._reducer(frame, self._content)
        if self._targets:
            cv2.split(self._content, self._targets)
        for plane, table, target in self._passes:
            cv2.LUT(plane, table, dst=target)
        return self._placement

    def _prepare(self, frame: Frame) -> None:
        """Memory for frames of this size, pixel aspect and format."""
        spec = self._spec
        self._placement = p = place(
            frame.wh_px,
            spec.size_wh,
            resize=spec.resize,
            align=spec.align,
            pixel_aspect=frame.pixel_aspect,
        )
        self._tensor = None
        self._reducer = None
        channels = {"gray8": 1, "bgra8": 4}.get(frame.format, 3)
        content = np.empty((p.h, p.w, channels), np.uint8)
        if channels == 1:
            self._content, self._targets, self._planes = content[..., 0], [], [content[..., 0]] * 3
            return
        self._planes = list(np.empty((channels, p.h, p.w), np.uint8))  # alpha goes to the last
        self._content = content
        self._targets = [self._planes[i] for i in (*self._order, 3)[:channels]]
        if frame.format not in ("bgr8", "bgra8"):
            self._reducer = _YuvReducer(frame, (p.w, p.h))

    def _take(self, tensor: NDArray[np.float32], p: Placement) -> None:
        for channel, table in zip(tensor[0], self._tables, strict=True):
            channel[...] = table[self._spec.pad]
        regions = tensor[0, :, max(p.y, 0) : p.y + p.h, max(p.x, 0) : p.x + p.w]
        top, left, (height, width) = max(-p.y, 0), max(-p.x, 0), regions.shape[1:]
        seen = [each[top : top + height, left : left + width] for each in self._planes[:3]]
        self._passes = list(zip(seen, self._tables, regions, strict=True))
        self._tensor = tensor


class _YuvReducer:
    """Resizes frames of one size and format, "yuyv", "nv12" or "i420", and converts the result."""

    def __init__(self, frame: Frame, content_wh: tuple[int, int]) -> None:
        width, height = content_wh
        self._planes: Any = np.empty((3, height, width), np.uint8)
        self._yuv = np.empty((height, width, 3), np.uint8)
        if frame.format != "i420":  # chroma as it lies in the frame
            self._packed = np.empty((height, width, 2 if frame.format == "nv12" else 4), np.uint8)
        if frame.format == "yuyv":
            self._pairs = np.empty((height, width, 2), np.uint8)

    def __call__(self, frame: Frame, content: NDArray[np.uint8]) -> None:
        """Fill ``content``, (height, width, 3) BGR."""
        luma, u, v = self._planes
        if frame.format == "i420":
            for source, target in zip(planes(frame), self._planes, strict=True):
                _resize(source, target)
        elif frame.format == "nv12":
            source, pairs = planes(frame)
            _resize(source, luma)
            _resize(pairs, self._packed)
            cv2.split(self._packed, (u, v))
        else:
            _resize(frame.pixels.reshape(len(frame.pixels), -1, 4), self._packed)  # Y0 U Y1 V
            cv2.split(self._packed, (luma, u, luma, v))  # this luma is every other pixel's
            _resize(frame.pixels, self._pairs)  # Y, and U and V mixed
            cv2.extractChannel(self._pairs, 0, dst=luma)
        cv2.merge((luma, u, v), dst=self._yuv)
        cv2.transform(self._yuv, yuv_to_bgr(frame.colour), dst=content)


def _resize(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    height, width = target.shape[:2]
    cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
