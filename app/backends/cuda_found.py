"""What comes back from the GPU? The boxes that it found, or raw outputs for the host to decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.backends.cuda_engine import SlotNetwork
from app.backends.decoders import STRIDES
from app.backends.decoders.common import Candidates, cells
from app.backends.postprocess import Limits, Postprocessor, in_source
from app.backends.sanity import Sanity
from app.detections import Detections
from app.gpu.boxes import DeviceBoxes, grid_table, knows, output_cells
from app.gpu.context import GpuContext
from app.gpu.transfer import PinnedArray
from app.letterbox import Placement
from app.model_spec import ModelSpec


class Found:
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
        sanity: Sanity,
    ) -> None:
        self._network, self._stream = network, stream
        outputs = network.run_for(1).outputs
        self._varies = any(not address for address, _ in outputs)
        # first: it refuses outputs that are not of the family
        self._limits, self._now = limits, (limits.score, limits.iou)
        shapes = [shape for _, shape in outputs]
        self._postprocess = Postprocessor(spec, shapes, limits, sanity)
        # the raw outputs come to the host only where the device cannot find the boxes
        self._boxes = None
        if not self._varies and knows(spec):
            ((_, shape),) = outputs
            grid = np.zeros((output_cells(spec, shape), 3), np.float32)
            if spec.family == "yolox":
                strides = tuple(spec.parameters.get("strides", STRIDES))
                grid = grid_table(*cells(spec.input.size_wh, strides))
            score, iou = self._now
            self._boxes = DeviceBoxes(context, spec, batch=batch, grid=grid, score=score, iou=iou)
        self._raw = [
            PinnedArray(context, (batch, *shape[1:]), np.float32, on_device=False)
            for address, shape in network.run_for(batch).outputs
            if address
        ]

    def refresh(self, *, mapped: bool) -> bool:
        """Take over new thresholds, and have memory of this kind for the boxes; nothing may be
        pending. Whether what was recorded with the old ones is no longer true."""
        moved = self._boxes is not None and self._boxes.put_results(mapped=mapped)
        wanted = self._limits.score, self._limits.iou
        if self._boxes is None or wanted == self._now:
            return moved
        score, iou = self._now = wanted
        self._boxes.tune(score=score, iou=iou)
        return True

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
            self._postprocess.sanity.note(boxes.broken(i))
            ids = found[:, 5].astype(np.intp)
            candidates = Candidates(found[:, :4].copy(), found[:, 4].copy(), ids)
            answers.append(in_source(candidates, placement))
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
