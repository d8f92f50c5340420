"""The CUDA backend: preprocessing, network and copies on the GPU, through PyCUDA.

Built, used and left on the pipeline thread. Each slot has page-locked arrays, device memory, a
stream and its events: while one slot computes, the other's frame is copied.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from app.backends.by_size import cut_remark
from app.backends.cuda_batch import BatchCudaSlot
from app.backends.cuda_engine import Engine, NativeEngine
from app.backends.cuda_fit import Engines, FittedBatchSlot, FittedSlot
from app.backends.cuda_slot import CudaSlot
from app.backends.postprocess import Limits
from app.backends.sanity import Sanity
from app.config import Transfer
from app.gpu.context import GpuContext, lost
from app.gpu.strategy import Strategy
from app.gpu.timeline import Timeline
from app.gpu.transfer import Bell
from app.model_spec import ModelSpec

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
        slots: int = SLOTS,
        device: int = 0,
        transfer: Transfer = "auto",
    ) -> None:
        self._spec, self._wake = spec, wake
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
