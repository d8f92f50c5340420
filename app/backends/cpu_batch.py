"""The CPU engine's slot that takes several frames at once, of one source or of many.

Weights are read once for all of them, which gives some percent on a CPU; the order of magnitude
that GPUs gain is not to be had here. Each frame is pre- and postprocessed as if it were alone, and
those that need another size of the input have a run of their own: their boxes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Any

from app.backends.cpu_network import BoundBatch, CpuNetwork
from app.backends.postprocess import Postprocessor
from app.backends.preprocess import CpuPreprocessor
from app.backends.sized_slot import SizedSlot
from app.detections import Detections
from app.frame import Frame
from app.model_spec import ModelSpec

Answers = list[tuple[Detections, Mapping[str, int]]]


class _Sized:
    """What a slot has for one size of the input."""

    def __init__(self, spec: ModelSpec, network: BoundBatch, postprocess: Postprocessor) -> None:
        self._network, self._postprocess = network, postprocess
        count = len(network.tensor)
        # one for each place in the batch: it keeps what suits its frame's size, and the padding
        self._preprocess = [CpuPreprocessor(spec.input) for _ in range(count)]
        self._places = [network.tensor[i : i + 1] for i in range(count)]

    def run(self, frames: Sequence[Frame]) -> Answers:
        """All of them need this size."""
        count = len(frames)
        start_ns = perf_counter_ns()
        placements = [
            preprocess(frame, place)
            for frame, preprocess, place in zip(
                frames, self._preprocess, self._places, strict=False
            )
        ]
        ready_ns = perf_counter_ns()
        outputs = self._network.run(count)
        done_ns = perf_counter_ns()
        found = [
            self._postprocess.on_ready_thread([output[i : i + 1] for output in outputs], placement)
            for i, placement in enumerate(placements)
        ]
        stages = {
            "preprocess": (ready_ns - start_ns) // count,
            "network": (done_ns - ready_ns) // count,
            "postprocess": (perf_counter_ns() - done_ns) // count,
        }
        return [(detections, stages) for detections in found]


class BatchCpuSlot(SizedSlot[Sequence[Frame], Answers, _Sized]):
    """As many frames in flight as the bound network has places."""

    def __init__(
        self, spec: ModelSpec, network: CpuNetwork, *, capacity: int, **common: Any
    ) -> None:
        """``common``: see SizedSlot."""
        self.capacity = capacity
        if spec.input.fit:
            network.bind_batch(spec, 1)  # what takes no batches is told before there is a frame
        super().__init__(spec, network, **common)

    def make(self, spec: ModelSpec) -> _Sized:
        """See SizedSlot."""
        network = self.network.bind_batch(spec, self.capacity)
        if not spec.input.fit:
            network.run(self.capacity)  # what a first run allocates, before there is a frame
        return _Sized(spec, network, self.postprocessor(spec, network.shapes))

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        self.put((frame,))

    def enqueue_all(self, frames: Sequence[Frame]) -> None:
        """See interfaces.BatchSlot."""
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self.put(frames)

    def collect(self) -> tuple[Detections, Mapping[str, int]]:
        """See interfaces.Slot."""
        return self.get()[0]

    def collect_all(self) -> Answers:
        """See interfaces.BatchSlot."""
        return self.get()

    def process(self, frames: Sequence[Frame]) -> Answers:
        """On a worker thread."""
        parts: dict[_Sized, list[int]] = {}
        for i, frame in enumerate(frames):
            parts.setdefault(self.by_size.for_frame(frame.wh_px), []).append(i)
        if len(parts) == 1:
            return next(iter(parts)).run(frames)
        answers: dict[int, Any] = {}
        for sized, numbers in parts.items():
            answers.update(zip(numbers, sized.run([frames[i] for i in numbers]), strict=True))
        return [answers[i] for i in range(len(frames))]
