"""How does one frame go through a network on the CPU?"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns
from typing import NamedTuple

from app.backends.cpu_network import BoundNetwork
from app.backends.postprocess import Postprocessor
from app.backends.preprocess import CpuPreprocessor
from app.backends.sized_slot import SizedSlot
from app.detections import Detections
from app.frame import Frame
from app.model_spec import ModelSpec

Answer = tuple[Detections, Mapping[str, int]]


class _Sized(NamedTuple):
    """What a slot has for one size of the input."""

    network: BoundNetwork
    preprocess: CpuPreprocessor
    postprocess: Postprocessor


class CpuSlot(SizedSlot[Frame, Answer, _Sized]):
    """One frame in flight and its buffers, bound once for each size of the input."""

    _now: _Sized
    _layout: tuple[object, ...] = ()  # of the pixels that ``_now`` is for

    def make(self, spec: ModelSpec) -> _Sized:
        """See SizedSlot."""
        network = self.network.bind(spec)
        if not spec.input.fit:
            network.run()  # what a first run allocates, before there is a frame
        return _Sized(
            network, CpuPreprocessor(spec.input), self.postprocessor(spec, network.shapes)
        )

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
            self._now, self._layout = self.by_size.for_frame(frame.wh_px), layout
        network, preprocess, postprocess = self._now
        placement = preprocess(frame, network.tensor)
        ready_ns = perf_counter_ns()
        outputs = network.run()
        done_ns = perf_counter_ns()
        detections = postprocess.on_ready_thread(outputs, placement)
        return detections, {
            "preprocess": ready_ns - start_ns,
            "network": done_ns - ready_ns,
            "postprocess": perf_counter_ns() - done_ns,
        }
