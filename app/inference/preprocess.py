"""Preprocessing on the CPU: a frame becomes the network's input tensor.

Resize, split into planes, look values up in a table: all into memory that is allocated once. A
pixel has 256 values, so (pixel × scale − mean) / std is a table of 256 floats a channel: one pass
writes the tensor, exactly rounded, however much normalisation a model wants. The padding is written
once, as frames of one size never touch it: of a 16:9 frame in a square that is 44 % of the tensor.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.frame import Frame, bgr_pixels
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
        self._placement: Placement | None = None
        self._tensor: NDArray[np.float32] | None = None  # the one that holds its padding

    def __call__(self, frame: Frame, tensor: NDArray[np.float32]) -> Placement:
        """Fill ``tensor`` (1, 3, H, W) float32; returns where the frame lies in it."""
        placement = self._place(frame.wh_px)
        if tensor is not self._tensor:
            self._take(tensor, placement)
        cv2.resize(
            bgr_pixels(frame),
            (placement.w, placement.h),
            dst=self._content,
            interpolation=cv2.INTER_LINEAR,
        )
        cv2.split(self._content, self._targets)
        for plane, table, target in self._passes:
            cv2.LUT(plane, table, dst=target)
        return placement

    def _place(self, source_wh: tuple[int, int]) -> Placement:
        if self._placement is None or self._placement.source_wh != source_wh:
            spec = self._spec
            p = place(source_wh, spec.size_wh, resize=spec.resize, align=spec.align)
            self._placement, self._tensor = p, None
            self._content = np.empty((p.h, p.w, 3), np.uint8)
            self._planes = np.empty((3, p.h, p.w), np.uint8)
            self._targets = [self._planes[i] for i in self._order]
        return self._placement

    def _take(self, tensor: NDArray[np.float32], p: Placement) -> None:
        for channel, table in zip(tensor[0], self._tables, strict=True):
            channel[...] = table[self._spec.pad]
        regions = tensor[0, :, p.y : p.y + p.h, p.x : p.x + p.w]
        self._passes = list(zip(self._planes, self._tables, regions, strict=True))
        self._tensor = tensor
