"""How does a GPU compute only as much of the input as its frames need? A slot for each size.

As on the CPU: of a square input and a 16:9 frame that is 60 %. A recording is made of fixed
addresses and shapes, so a size has memory, recordings and an engine of its own; all are made when
a frame first needs that size, and freed when none has for long.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

from app.backends.by_size import KEPT, BySize, Size
from app.backends.cuda_batch import BatchCudaSlot
from app.backends.cuda_engine import Engine
from app.backends.cuda_slot import Answer, CudaSlot
from app.frame import Frame
from app.gpu.context import GpuContext, lost
from app.model_spec import ModelSpec


class Engines:
    """One for each size that a slot has, freed with the last of them; ``whole`` stays."""

    def __init__(self, whole: Engine, spec: ModelSpec) -> None:
        self.whole = whole
        self._kept: dict[Size, Engine] = {spec.input.size_wh: whole}
        self._users: Counter[Size] = Counter({spec.input.size_wh: 1})

    def take(self, spec: ModelSpec) -> Engine:
        """That for the input of ``spec``; raises what making it raises."""
        size = spec.input.size_wh
        if size not in self._kept:
            self._kept[size] = self.whole.at(spec)
        self._users[size] += 1
        return self._kept[size]

    def give_back(self, spec: ModelSpec) -> None:
        """One who took it needs it no longer; its network must have been closed."""
        size = spec.input.size_wh
        self._users[size] -= 1
        if not self._users[size]:
            self._kept.pop(size).close()

    def close(self) -> None:
        """Free all of them, whoever has them still."""
        while self._kept:
            self._kept.popitem()[1].close()


class FittedSlot:
    """A slot whose frames may need inputs of several sizes. Pipeline thread only."""

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        make: Callable[[ModelSpec], CudaSlot],
        drop: Callable[[CudaSlot], None],
        *,
        capacity: int = 1,
    ) -> None:
        self._context, self.capacity = context, capacity
        # a batch may need as many sizes as it has frames, and all of them at once
        self._by_size = BySize(spec, make, drop=drop, most=max(KEPT, capacity))
        self._busy: list[tuple[CudaSlot, list[int]]] = []  # and the numbers of its frames

    def prepare(self, wh_px: tuple[int, int]) -> None:
        """See interfaces.Fitted."""
        self._slot_for(wh_px)

    def _slot_for(self, wh_px: tuple[int, int]) -> CudaSlot:
        """That which frames of this size go through."""
        try:
            return self._by_size.for_frame(wh_px)
        except BaseException as error:
            # what was half built hangs on the error's frames: let go while the context is current
            traceback.clear_frames(error.__traceback__)
            if isinstance(error, self._context.driver.Error):
                raise lost(self._context.name, error) from error
            raise

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        assert not self._busy, "the slot is busy"
        slot = self._slot_for(frame.wh_px)
        slot.enqueue(frame)
        self._busy = [(slot, [0])]

    def ready(self) -> bool:
        """See interfaces.Slot."""
        return all(slot.ready() for slot, _ in self._busy)

    def collect(self) -> Answer:
        """See interfaces.Slot."""
        ((slot, _),) = self._busy
        self._busy = []
        return slot.collect()

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the input that were needed of late; any thread."""
        return self._by_size.sizes

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._busy = []
        self._by_size.close()


class FittedBatchSlot(FittedSlot):
    """As many frames as ``capacity``: those of a size go together, beside those of another."""

    def enqueue_all(self, frames: Sequence[Frame]) -> None:
        """See interfaces.BatchSlot."""
        assert not self._busy, "the slot is busy"
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        parts: dict[CudaSlot, list[int]] = {}
        for i, frame in enumerate(frames):
            parts.setdefault(self._slot_for(frame.wh_px), []).append(i)
        for slot, numbers in parts.items():
            cast(BatchCudaSlot, slot).enqueue_all([frames[i] for i in numbers])
        self._busy = list(parts.items())

    def collect_all(self) -> list[Answer]:
        """See interfaces.BatchSlot."""
        busy, self._busy = self._busy, []
        answers: dict[int, Answer] = {}
        for slot, numbers in busy:
            found = cast(BatchCudaSlot, slot).collect_all()
            answers.update(zip(numbers, found, strict=True))
        return [answers[i] for i in range(len(answers))]
