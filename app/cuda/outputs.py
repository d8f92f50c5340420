"""From raw outputs on the device to the few boxes that are read back.

For the families that declare a kernel; others are decoded on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections
from ..core.letterbox import Placement
from ..inference.postprocess import Limits, NanGuard, Postprocessor, in_source
from ..models.families.base import Candidates, DeviceKernel, Head
from ..models.manifest import ModelSpec
from .context import GpuContext, PinnedArray
from .kernels import load_kernel, load_module
from .native.engine import SlotNetwork

CAPACITY = 1024  # candidates, as in kernels/postprocess.cu
MOST = CAPACITY  # boxes
THREADS = 256
LEAD = 8  # floats before the rows: candidates, boxes, cells that are NaN, room for alignment
STEP = LEAD + MOST * 6  # floats of a frame's results


class DeviceBoxes:
    """One slot's candidates and boxes, of up to ``batch`` frames."""

    def __init__(
        self,
        context: GpuContext,
        kernel: DeviceKernel,
        head: Head,
        *,
        batch: int,
    ) -> None:
        driver = context.driver
        self._driver = driver
        module = load_module(context, "postprocess")
        self._decode = load_kernel(module, kernel.name, "PPPPPiif")
        self._nms = load_kernel(module, "nms", "PPPPPiif")
        grid = kernel.grid(head)
        self._grid = driver.mem_alloc(grid.nbytes)
        driver.memcpy_htod(self._grid, grid)
        self._found = driver.mem_alloc(batch * CAPACITY * 6 * 4)
        self._cells = driver.mem_alloc(batch * CAPACITY * 4)
        self._count = driver.mem_alloc(batch * 8)
        self._context, self._batch = context, batch
        self._result: PinnedArray | None = None
        self._with: tuple[bool, float, float] | None = None  # mapped, score, iou
        self._decode_with: tuple[Any, ...] = ()
        self._nms_with: tuple[Any, ...] = ()
        self._sizes = np.int32(len(grid)), np.int32(head.classes)
        self._blocks = -(-len(grid) // THREADS)

    def refresh(self, *, mapped: bool, score: float, iou: float, most: int) -> bool:
        """Take over thresholds, and have memory of this kind for the results. ``most``: so many
        boxes of a frame will be kept.

        Nothing may be pending. Whether what was captured before is no longer true.
        """
        if self._with == (mapped, score, iou):
            return False
        if self._result is None or self._result.mapped != mapped:
            result, self._result = self._result, None  # should other memory fail, it is freed once
            if result is not None:
                result.close()
            shape = (self._batch, STEP)
            self._result = PinnedArray(self._context, shape, np.float32, mapped=mapped)
        candidates = (self._found, self._cells, self._count)
        counts = int(self._result.device)
        kept = counts + LEAD * 4
        self._decode_with = (self._grid, *candidates, *self._sizes, np.float32(score))
        # twice as many: those that lie in the padding go afterwards
        ends = np.int32(min(MOST, 2 * most))
        self._nms_with = (*candidates, kept, counts, np.int32(STEP), ends, np.float32(iou))
        self._with = mapped, score, iou
        return True

    def enqueue(self, stream: Any, raw: int, frames: int) -> None:
        """Find the boxes, on the device, in the network's output there for the first frames."""
        self._driver.memset_d32_async(self._count, 0, 2 * frames, stream)
        self._decode((self._blocks, frames), (THREADS, 1, 1), stream, raw, *self._decode_with)
        self._nms((frames, 1), (THREADS, 1, 1), stream, *self._nms_with)

    def download(self, stream: Any, frames: int) -> None:
        """Copy them to the host."""
        assert self._result is not None
        self._result.download(stream, int(self._result.device), frames)

    def broken(self, frame: int) -> bool:
        """Whether the network gave something that is no number."""
        assert self._result is not None
        return bool(self._result.host[frame, :3].view(np.int32)[2])

    def rows(self, frame: int) -> NDArray[np.float32] | None:
        """(n, 6) x0, y0, x1, y1 in input pixels, score, class_id; None: there were too many
        candidates for the device."""
        assert self._result is not None
        result = self._result.host[frame]
        candidates, kept = (int(v) for v in result[:2].view(np.int32))
        if candidates > CAPACITY:
            return None
        return cast(NDArray[np.float32], result[LEAD : LEAD + 6 * kept].reshape(-1, 6))

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        if self._result is not None:
            self._result.close()
        for memory in (self._grid, self._found, self._cells, self._count):
            memory.free()
        del self._decode, self._nms  # an error on its way may still know of us


class DetectionReadback:
    """The results of one slot's runs, of up to ``batch`` frames. Pipeline thread only."""

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        network: SlotNetwork,
        stream: Any,
        *,
        batch: int,
        limits: Limits,
        nan_guard: NanGuard,
    ) -> None:
        self._network, self._stream = network, stream
        outputs = network.run_for(1).outputs
        self._varies = any(not address for address, _ in outputs)
        # first: it refuses outputs that are not of the family
        self._limits = limits
        shapes = [shape for _, shape in outputs]
        self._postprocess = Postprocessor(spec, shapes, limits, nan_guard)
        # the raw outputs come to the host only where the device cannot find the boxes
        self._boxes = None
        kernel = spec.detector.device
        if kernel is not None and not self._varies and not spec.chooses:
            self._boxes = DeviceBoxes(context, kernel, spec.head(shapes), batch=batch)
        self._raw = [
            PinnedArray(context, (batch, *shape[1:]), np.float32, on_device=False)
            for address, shape in network.run_for(batch).outputs
            if address
        ]

    def refresh(self, *, mapped: bool) -> bool:
        """As DeviceBoxes.refresh, with the slot's thresholds of this moment."""
        if self._boxes is None:
            return False
        limits = self._limits
        return self._boxes.refresh(
            mapped=mapped, score=limits.score, iou=limits.iou, most=limits.most
        )

    def enqueue(self, frames: int) -> None:
        """Find the boxes of so many frames, where the device can."""
        if self._boxes is not None:
            ((address, _),) = self._network.run_for(frames).outputs
            self._boxes.enqueue(self._stream, address, frames)

    def download(self, frames: int) -> None:
        """Enqueue the copy of what there is to the host."""
        if self._boxes is not None:
            self._boxes.download(self._stream, frames)
        else:
            self._download_raw(frames)

    def detections(self, placements: Sequence[Placement]) -> list[Detections]:
        """Of each frame of a run that is done."""
        if self._varies:
            (placement,) = placements
            return [self._postprocess(self._network.run_for(1).varying(), placement)]
        boxes = self._boxes
        if boxes is None:
            return [self._decoded(i, placement) for i, placement in enumerate(placements)]
        rows = [boxes.rows(i) for i in range(len(placements))]
        if any(found is None for found in rows):  # more candidates than the device has room for
            self._download_raw(len(placements))
            self._stream.synchronize()
        answers = []
        for i, (found, placement) in enumerate(zip(rows, placements, strict=True)):
            if found is None:
                answers.append(self._decoded(i, placement))
                continue
            self._postprocess.nan_guard.note(boxes.broken(i))
            ids = found[:, 5].astype(np.intp)
            candidates = Candidates(found[:, :4].copy(), found[:, 4].copy(), ids)
            answers.append(in_source(candidates, placement, self._limits))
        return answers

    def _decoded(self, frame: int, placement: Placement) -> Detections:
        return self._postprocess([raw.host[frame : frame + 1] for raw in self._raw], placement)

    def _download_raw(self, frames: int) -> None:
        if self._varies:
            return
        outputs = self._network.run_for(frames).outputs
        for (address, _), raw in zip(outputs, self._raw, strict=True):
            raw.download(self._stream, address, frames)

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        for raw in self._raw:
            raw.close()
        self._raw.clear()
        if self._boxes is not None:
            self._boxes.close()
        self._boxes = self._stream = None  # an error on its way may still know of us
