"""The CUDA backend: preprocessing, network and copies on the GPU, through PyCUDA.

Built, used and left on the pipeline thread. Each slot has page-locked arrays, device memory, a
stream and its events: while one slot computes, the other's frame is copied.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from app.backends.cuda_batch import BatchCudaSlot
from app.backends.cuda_engine import Engine, NativeEngine
from app.backends.cuda_slot import CudaSlot
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

    ``make_engine`` is called with the context current: our own kernels, or ONNX Runtime.
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
        self._spec, self._file, self._wake = spec, weights, wake
        self._make_engine = make_engine
        self._strategy, self._timeline = Strategy(transfer), Timeline()
        self._score, self._iou, self._count = score, iou, slots
        self._context = GpuContext(device)
        self._engine: Engine | None = None
        self._bell: Bell | None = None
        self._slots: list[CudaSlot] = []
        self.description = ""

    def __enter__(self) -> CudaBackend:
        context = self._context.__enter__()
        try:
            self._engine = self._make_engine(context, self._spec, self._file)
            self._bell = Bell(self._wake)
            self._timeline.open(context, capture=self._engine.captured)
            kind = CudaSlot if self._engine.batch == 1 else BatchCudaSlot
            for _ in range(self._count):
                self._slots.append(
                    kind(
                        context,
                        self._engine,
                        self._spec,
                        bell=self._bell,
                        strategy=self._strategy,
                        timeline=self._timeline,
                        score=self._score,
                        iou=self._iou,
                    )
                )
        except BaseException as error:
            # what was half built hangs on the error's frames: let go while the context is current
            traceback.clear_frames(error.__traceback__)
            self.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, context.driver.Error):
                raise lost(context.name, error) from error
            raise
        self.description = f"{self._engine.description}, {context.name}, {self._spec.name}"
        return self

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
            if self._engine is not None:
                self._engine.close()
        except driver.Error as fault:
            if error is None:
                raise lost(self._context.name, fault) from fault
        finally:
            self._slots, self._engine = [], None
            try:
                self._context.__exit__(kind, error, trace)
            finally:
                if self._bell is not None:  # its semaphore outlives whatever may still post it
                    self._bell.close()

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        for slot in self._slots:
            slot.tune(score=score, iou=iou)

    @property
    def remarks(self) -> Sequence[str]:
        """See interfaces.Backend."""
        return [r for r in (self._strategy.remark, self._timeline.overlap.line()) if r]

    @property
    def slots(self) -> Sequence[CudaSlot]:
        """See interfaces.Backend."""
        return self._slots
