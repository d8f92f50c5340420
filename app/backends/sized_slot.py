"""What do the slots of the CPU share: thresholds, a watch for NaN, what a size of input needs?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from app.backends.by_size import BySize, Size
from app.backends.cpu_network import CpuNetwork
from app.backends.decoders.common import Shapes
from app.backends.postprocess import Limits, Postprocessor
from app.backends.sanity import Sanity
from app.backends.worker_slot import Answer, Job, WorkerSlot
from app.model_spec import ModelSpec

Kept = TypeVar("Kept")


class SizedSlot(WorkerSlot[Job, Answer], Generic[Job, Answer, Kept]):
    """A slot whose ``by_size`` has what ``make`` gives for each size of the input."""

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
        self.network, self._limits, self._sanity = network, Limits(score, iou), Sanity(spec.name)
        if spec.input.fit:  # the slot waits for frames to tell their size, but a misfit is told now
            self.postprocessor(spec, network.shapes)
        self.by_size = BySize(spec, self.make)

    @abstractmethod
    def make(self, spec: ModelSpec) -> Kept:
        """What the slot needs for the input of ``spec``; raises ModelError."""

    def postprocessor(self, spec: ModelSpec, shapes: Shapes) -> Postprocessor:
        """With the slot's thresholds, and its count of frames that gave NaN."""
        return Postprocessor(spec, shapes, self._limits, self._sanity)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the input that were needed of late."""
        return self.by_size.sizes

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._limits.tune(score=score, iou=iou)
