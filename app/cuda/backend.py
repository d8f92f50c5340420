"""The CUDA backend: preprocessing, network and copies on the GPU, through PyCUDA.

As on the CPU: of a square input and a 16:9 frame that is 60 %. A recording is made of fixed
addresses and shapes, so a size has memory, recordings and an engine of its own; all are made when
a frame first needs that size, and freed when none has for long.

Built, used and left on the pipeline thread. Each slot has page-locked arrays, device memory, a
stream and its events: while one slot computes, the other's frame is copied.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import cast

from ..config import Transfer
from ..core.frame import Frame
from ..core.interfaces import EngineKind
from ..inference.cpu import KEPT, BySize, Size, cut_remark
from ..inference.postprocess import Limits, Sanity
from ..models.manifest import ModelSpec
from .context import Bell, GpuContext, lost
from .native.engine import Engine, NativeEngine
from .slot import Answer, BatchCudaSlot, CudaSlot
from .timing import Strategy, Timeline


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


SLOTS = 2


class CudaBackend:
    """``slots`` frames, or batches of them where the engine takes several at once, in flight on
    one GPU; a context manager for the pipeline thread.

    ``make_engine`` is called with the context current: our own kernels, or ONNX Runtime. With `fit`
    in ``spec`` it makes that for the whole input; those of other sizes follow with their frames.
    ``transfer``: see strategy.py.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Path,
        *,
        wake: Callable[[], None],
        score: float,
        iou: float,
        make_engine: Callable[[GpuContext, ModelSpec, Path], Engine] = NativeEngine,
        kind: EngineKind = "cuda",
        slots: int = SLOTS,
        device: int = 0,
        transfer: Transfer = "auto",
    ) -> None:
        self._spec, self._wake, self.kind = spec, wake, kind
        self._strategy, self._timeline = Strategy(transfer), Timeline()
        self._limits, self._count = Limits(score, iou), slots
        self._context = GpuContext(device)
        self._make_engine, self._file = make_engine, weights
        self._engines: Engines | None = None
        self._bell: Bell | None = None
        self._slots: list[CudaSlot] | list[FittedSlot] = []
        self.description = ""

    def __enter__(self) -> CudaBackend:
        context = self._context.__enter__()
        try:
            engine = self._make_engine(context, self._spec, self._file)
            self._engines = Engines(engine, self._spec)
            self._bell = Bell(self._wake)
            self._timeline.open(context, capture=engine.captured)
            if self._spec.input.fit:
                kind = FittedSlot if engine.batch == 1 else FittedBatchSlot
                self._slots = [self._fitted(kind, engine.batch) for _ in range(self._count)]
                # frames tell what the slots need, but what cannot be at all is told now
                self._slots[0].prepare(self._spec.input.size_wh)
            else:
                self._slots = whole = []
                for _ in range(self._count):
                    whole.append(self._open(self._spec, sanity=Sanity(self._spec.name)))
        except BaseException as error:
            # what was half built hangs on the error's frames: let go while the context is current
            traceback.clear_frames(error.__traceback__)
            self.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, context.driver.Error):
                raise lost(context.name, error) from error
            raise
        self.description = f"{engine.description}, {context.name}, {self._spec.name}"
        return self

    def _fitted(self, kind: type[FittedSlot], capacity: int) -> FittedSlot:
        sanity = Sanity(self._spec.name)  # one for all sizes: what it counts belongs to the slot
        make = partial(self._open, sanity=sanity)
        return kind(self._context, self._spec, make, self._close, capacity=capacity)

    def _open(self, sized: ModelSpec, *, sanity: Sanity) -> CudaSlot:
        """A slot for the input of ``sized``."""
        assert self._bell is not None and self._engines is not None
        engine = self._engines.take(sized)
        kind = CudaSlot if engine.batch == 1 else BatchCudaSlot
        return kind(
            *(self._context, engine, sized),
            bell=self._bell,
            strategy=self._strategy,
            timeline=self._timeline,
            limits=self._limits,
            sanity=sanity,
        )

    def _close(self, slot: CudaSlot) -> None:
        """One that a fitted slot keeps no longer."""
        self._context.driver.Context.synchronize()  # its bell may not have been rung yet
        slot.close()
        assert self._engines is not None
        self._engines.give_back(slot.spec)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        driver = self._context.driver
        try:
            driver.Context.synchronize()
            for slot in self._slots:
                slot.close()
            self._timeline.close()
            if self._engines is not None:
                self._engines.close()
        except driver.Error as fault:
            if error is None:
                raise lost(self._context.name, fault) from fault
        finally:
            self._slots, self._engines = [], None
            try:
                self._context.__exit__(kind, error, trace)
            finally:
                if self._bell is not None:  # its semaphore outlives whatever may still post it
                    self._bell.close()

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._limits.tune(score=score, iou=iou)

    @property
    def remarks(self) -> Sequence[str]:
        """See interfaces.Backend."""
        cut = cut_remark(self._spec, (s.sizes for s in self._slots if isinstance(s, FittedSlot)))
        return [*cut, *(r for r in (self._strategy.remark, self._timeline.overlap.line()) if r)]

    @property
    def slots(self) -> Sequence[CudaSlot] | Sequence[FittedSlot]:
        """See interfaces.Backend."""
        return self._slots
