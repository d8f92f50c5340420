"""How does a frame become the network's input tensor on the CPU?

resize → canvas (uint8, padded once) → planes → table, all into memory that is allocated once. A
pixel has 256 values, so (pixel × scale − mean) / std is a table of 256 floats a channel: one pass
writes the tensor, exactly rounded, however much normalisation a model wants.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from app.frame import Frame
from app.letterbox import Placement, place
from app.model_spec import InputSpec
from app.overlay import bgr_pixels


class CpuPreprocessor:
    """For one slot: not to be shared between threads."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        width, height = spec.size_wh
        self._canvas = np.full((height, width, 3), spec.pad, np.uint8)
        self._planes = np.empty((3, height, width), np.uint8)
        # cv2.split writes B, G, R; into the planes' order it goes by reversing the targets
        order = (0, 1, 2) if spec.channels == "BGR" else (2, 1, 0)
        self._targets = [self._planes[i] for i in order]
        std = np.array(spec.std, np.float64)[:, None]
        values = np.arange(256) * spec.scale - np.array(spec.mean, np.float64)[:, None]
        self._tables = list((values / std).astype(np.float32))
        self._placement: Placement | None = None

    def __call__(self, frame: Frame, tensor: NDArray[np.float32]) -> Placement:
        """Fill ``tensor`` (1, 3, H, W) float32; returns where the frame lies in it."""
        placement = self._place(frame.wh_px)
        p = placement
        cv2.resize(
            bgr_pixels(frame),
            (p.w, p.h),
            dst=self._canvas[p.y : p.y + p.h, p.x : p.x + p.w],
            interpolation=cv2.INTER_LINEAR,
        )
        cv2.split(self._canvas, self._targets)
        for plane, table, target in zip(self._planes, self._tables, tensor[0], strict=True):
            cv2.LUT(plane, table, dst=target)
        return placement

    def _place(self, source_wh: tuple[int, int]) -> Placement:
        if self._placement is None or self._placement.source_wh != source_wh:
            spec = self._spec
            self._placement = place(source_wh, spec.size_wh, resize=spec.resize, align=spec.align)
            self._canvas[...] = spec.pad
        return self._placement
