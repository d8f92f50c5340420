"""The CPU engine's slot that takes several frames at once, of one source or of many.

Weights are read once for all of them, which gives some percent on a CPU; the order of magnitude
that GPUs gain is not to be had here. Each frame is pre- and postprocessed as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.ort import one_line
from app.backends.ort_io import network_io
from app.backends.postprocess import Postprocessor
from app.backends.preprocess import CpuPreprocessor
from app.backends.worker_slot import WorkerSlot
from app.detections import Detections
from app.errors import ModelError
from app.frame import Frame
from app.model_spec import ModelSpec

Answers = list[tuple[Detections, Mapping[str, int]]]


class BatchCpuSlot(WorkerSlot[Sequence[Frame], Answers]):
    """``capacity`` frames in flight. Raises ModelError where the network takes one at a time."""

    def __init__(
        self,
        spec: ModelSpec,
        session: Any,
        *,
        capacity: int,
        queue: SimpleQueue[Any],
        wake: Callable[[], None],
        score: float,
        iou: float,
    ) -> None:
        super().__init__(queue=queue, wake=wake)
        self.capacity = capacity
        self._session, self._name = session, spec.name
        io = network_io(session, spec)
        shapes = [shape for _, shape in io.outputs]
        fixed = isinstance(session.get_inputs()[0].shape[0], int)
        if fixed or io.varies or any(shape[0] != 1 for shape in shapes):
            raise ModelError(
                f"model {spec.name}: its network takes one frame at a time; leave --batch out, or "
                "export it with a dynamic first axis"
            )
        self._input, self._names = io.input, [name for name, _ in io.outputs]
        self._tensor = np.zeros((capacity, *io.shape[1:]), np.float32)
        self._outputs = [np.empty((capacity, *shape[1:]), np.float32) for shape in shapes]
        self._bindings = [self._bind(count) for count in range(1, capacity + 1)]
        self._places = [self._tensor[i : i + 1] for i in range(capacity)]
        # one for each place in the batch: it keeps what suits its frame's size, and the padding
        self._preprocess = [CpuPreprocessor(spec.input) for _ in range(capacity)]
        self._postprocess = Postprocessor(spec, shapes, score=score, iou=iou)
        self._run(capacity)

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._postprocess.tune(score=score, iou=iou)

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
        count = len(frames)
        start_ns = perf_counter_ns()
        placements = [
            preprocess(frame, place)
            for frame, preprocess, place in zip(
                frames, self._preprocess, self._places, strict=False
            )
        ]
        ready_ns = perf_counter_ns()
        self._run(count)
        done_ns = perf_counter_ns()
        found = [
            self._postprocess([output[i : i + 1] for output in self._outputs], placement)
            for i, placement in enumerate(placements)
        ]
        stages = {
            "preprocess": (ready_ns - start_ns) // count,
            "network": (done_ns - ready_ns) // count,
            "postprocess": (perf_counter_ns() - done_ns) // count,
        }
        return [(detections, stages) for detections in found]

    def _run(self, count: int) -> None:
        try:
            self._session.run_with_iobinding(self._bindings[count - 1])
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise ModelError(f"model {self._name}: inference failed: {one_line(error)}") from error

    def _bind(self, count: int) -> Any:
        """The first ``count`` places of our memory."""
        binding = self._session.io_binding()
        _bind_part(binding.bind_input, self._input, self._tensor[:count])
        for name, output in zip(self._names, self._outputs, strict=True):
            _bind_part(binding.bind_output, name, output[:count])
        return binding


def _bind_part(bind: Callable[..., None], name: str, part: NDArray[np.float32]) -> None:
    bind(name, "cpu", 0, np.float32, part.shape, part.ctypes.data)
