"""How does one frame go through a network on the CPU?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any, NamedTuple

from app.backends.by_size import BySize, Size
from app.backends.cpu_network import BoundNetwork, CpuNetwork
from app.backends.postprocess import Limits, Postprocessor
from app.backends.preprocess import CpuPreprocessor
from app.backends.sanity import Sanity
from app.backends.worker_slot import WorkerSlot
from app.detections import Detections
from app.frame import Frame
from app.model_spec import ModelSpec

Answer = tuple[Detections, Mapping[str, int]]


class _Sized(NamedTuple):
    """What a slot has for one size of the input."""

    network: BoundNetwork
    preprocess: CpuPreprocessor
    postprocess: Postprocessor


class CpuSlot(WorkerSlot[Frame, Answer]):
    """One frame in flight and its buffers, bound once."""

    def __init__(
        self,
        spec: ModelSpec,
        network: CpuNetwork,
        *,
        queue: SimpleQueue[Any],
        wake: Callable[[], None],
        score: float,
        iou: float,
    ) -> None:
        super().__init__(queue=queue, wake=wake)
        self._network, self._limits, self._sanity = network, Limits(score, iou), Sanity(spec.name)
        if spec.input.fit:  # the slot waits for frames to tell their size, but a misfit is told now
            Postprocessor(spec, network.shapes, self._limits)
        self._by_size = BySize(spec, self._make)
        self._layout: tuple[object, ...] = ()  # of the pixels that ``_now`` is for
        self._now: _Sized

    def _make(self, spec: ModelSpec) -> _Sized:
        network = self._network.bind(spec)
        if not spec.input.fit:
            network.run()  # what a first run allocates, before there is a frame
        postprocess = Postprocessor(spec, network.shapes, self._limits, self._sanity)
        return _Sized(network, CpuPreprocessor(spec.input), postprocess)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the input that were needed of late."""
        return self._by_size.sizes

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._limits.tune(score=score, iou=iou)

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        self.put(frame)

    def collect(self) -> Answer:
        """See interfaces.Slot."""
        return self.get()

    def process(self, frame: Frame) -> Answer:
        """On a worker thread."""
        start_ns = perf_counter_ns()
        layout = frame.pixels.shape, frame.format
        if layout != self._layout:
            self._now, self._layout = self._by_size.for_frame(frame.wh_px), layout
        network, preprocess, postprocess = self._now
        placement = preprocess(frame, network.tensor)
        ready_ns = perf_counter_ns()
        outputs = network.run()
        done_ns = perf_counter_ns()
        detections = postprocess(outputs, placement)
        return detections, {
            "preprocess": ready_ns - start_ns,
            "network": done_ns - ready_ns,
            "postprocess": perf_counter_ns() - done_ns,
        }
