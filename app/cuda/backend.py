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

from ..config import Transfer
from ..core.frame import Frame
from ..core.interfaces import EngineKind
from ..inference.postprocess import MAX_DETECTIONS, Limits, NanGuard
from ..inference.shape_cache import Size, cut_remark
from ..models.manifest import ModelSpec
from .context import Bell, GpuContext, lost
from .native.engine import GpuEngine, NativeEngine
from .slot import CudaBinding, CudaSlot
from .timing import DeviceTimeline, TransferMode

SLOTS = 2


class CudaBackend:
    """``slots`` frames, or batches of them where the engine takes several at once, in flight on
    one GPU; a context manager for the pipeline thread.

    ``make_engine`` is called with the context current: our own kernels, or ONNX Runtime. With `fit`
    in ``spec`` it makes that for the whole input; those of other sizes follow with their frames.
    ``transfer``: see TransferMode.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Path,
        *,
        wake: Callable[[], None],
        score: float,
        iou: float,
        most: int = MAX_DETECTIONS,
        make_engine: Callable[[GpuContext, ModelSpec, Path], GpuEngine] = NativeEngine,
        kind: EngineKind = "cuda",
        slots: int = SLOTS,
        device: int = 0,
        transfer: Transfer = "auto",
    ) -> None:
        self._spec, self._wake, self.kind = spec, wake, kind
        self._transfer, self._timeline = TransferMode(transfer), DeviceTimeline()
        self._limits, self._count = Limits(score, iou, most), slots
        self._context = GpuContext(device)
        self._make_engine, self._file = make_engine, weights
        self._engines: dict[Size, GpuEngine] = {}  # by input size; that of the whole input stays
        self._bell: Bell | None = None
        self._slots: list[CudaSlot] = []
        self.description = ""

    def __enter__(self) -> CudaBackend:
        context, spec = self._context.__enter__(), self._spec
        try:
            engine = self._make_engine(context, spec, self._file)
            self._engines[spec.input.size_wh] = engine
            self._bell = Bell(self._wake)
            self._timeline.open(context, capture=engine.captured)
            for _ in range(self._count):
                # one guard for all shapes: what it counts belongs to the slot
                bind = partial(self._bind, nan_guard=NanGuard(spec.name))
                slot = CudaSlot(context, spec, bind, self._release, capacity=engine.batch)
                self._slots.append(slot)
            # frames tell what the slots need, but what cannot be at all is told now
            self._slots[0].prepare(spec.input.size_wh)
        except BaseException as error:
            # what was half built hangs on the error's frames: let go while the context is current
            traceback.clear_frames(error.__traceback__)
            self.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, context.driver.Error):
                raise lost(context.name, error) from error
            raise
        self.description = f"{engine.description}, {context.name}, {spec.name}"
        return self

    def _bind(self, spec: ModelSpec, *, nan_guard: NanGuard) -> CudaBinding:
        """A slot's buffers for the input of ``spec``."""
        assert self._bell is not None
        size, whole = spec.input.size_wh, self._engines[self._spec.input.size_wh]
        try:
            if size not in self._engines:
                self._engines[size] = whole.at(spec)
            return CudaBinding(
                *(self._context, self._engines[size], spec),
                bell=self._bell,
                transfer=self._transfer,
                timeline=self._timeline,
                limits=self._limits,
                nan_guard=nan_guard,
                peers=self._peers,
            )
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # as above
            if isinstance(error, self._context.driver.Error):
                raise lost(self._context.name, error) from error
            raise

    def _peers(self, frame: Frame) -> list[CudaBinding]:
        """What all slots have for frames of this shape."""
        shape = frame.wh_px, frame.pixel_aspect
        return [slot.shapes.for_frame(*shape) for slot in self._slots]

    def _release(self, binding: CudaBinding) -> None:
        """Free buffers that a slot no longer keeps, and the engine with the last that used it."""
        self._context.driver.Context.synchronize()  # its bell may not have been rung yet
        binding.close()
        size = binding.spec.input.size_wh
        if size != self._spec.input.size_wh and not any(size in s.sizes for s in self._slots):
            self._engines.pop(size).close()

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
            for engine in self._engines.values():
                engine.close()
        except driver.Error as fault:
            if error is None:
                raise lost(self._context.name, fault) from fault
        finally:
            self._slots, self._engines = [], {}
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
        cut = cut_remark(self._spec, (slot.sizes for slot in self._slots))
        return [*cut, *(r for r in (self._transfer.remark, self._timeline.overlap.line()) if r)]

    @property
    def slots(self) -> Sequence[CudaSlot]:
        """See interfaces.Backend."""
        return self._slots
