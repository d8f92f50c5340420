"""The CUDA backend: preprocessing, network and copies on the GPU, through PyCUDA.

Built, used and left on the pipeline thread. Each slot has page-locked arrays, device memory, a
stream and its events: while one slot computes, the other's frame is copied.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import NamedTuple

import numpy as np

from app.backends.cuda_engine import Engine, NativeEngine
from app.backends.decoders import STRIDES
from app.backends.decoders.common import Candidates, cells
from app.backends.postprocess import Postprocessor, in_source
from app.config import Transfer
from app.detections import Detections
from app.frame import Frame, PixelFormat
from app.gpu.boxes import DeviceBoxes, grid_table, knows, output_cells
from app.gpu.context import GpuContext, lost
from app.gpu.kernel_files import load_kernel, load_module
from app.gpu.recording import Mark, Recorder
from app.gpu.strategy import Strategy
from app.gpu.timeline import Timeline
from app.gpu.transfer import Bell, PinnedArray
from app.letterbox import Placement, place
from app.model_spec import ModelSpec

SLOTS = 2
STAGES = ("upload", "preprocess", "network", "postprocess", "download")
FORMATS = ("bgr8", "bgra8", "gray8", "yuyv", "nv12")
TRIALS = 7  # runs of the first frame with each way of transfer; the first does not count
SIGNATURE = "PP" + "i" * 11 + "f" * 7
BLOCK = (32, 8, 1)


class CudaBackend:
    """``slots`` frames in flight on one GPU; a context manager for the pipeline thread.

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
            for _ in range(self._count):
                self._slots.append(
                    CudaSlot(
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


class CudaSlot:
    """One frame in flight: its memory, stream and events."""

    def __init__(
        self,
        context: GpuContext,
        engine: Engine,
        spec: ModelSpec,
        *,
        bell: Bell,
        strategy: Strategy,
        timeline: Timeline,
        score: float,
        iou: float,
    ) -> None:
        self._context, self._driver, self._spec = context, context.driver, spec
        self._stream = self._driver.Stream()
        self._done = self._driver.Event()
        self._recorder = Recorder(context, self._stream, len(STAGES) + 1, capture=engine.captured)
        self._recorded: tuple[object, ...] = ()
        self._network = engine.network(self._stream)
        self._varies = any(not address for address, _ in self._network.outputs)
        module = load_module(context, "preprocess", defines=["HALF"] * self._network.input_half)
        self._preprocess = load_kernel(module, "preprocess", SIGNATURE)
        # first: it refuses outputs that are not of the family
        self._postprocess = Postprocessor(
            spec, [shape for _, shape in self._network.outputs], score=score, iou=iou
        )
        # the raw outputs come to the host only where the device cannot find the boxes
        self._boxes = self._device_boxes(context, score, iou)
        self._outputs = [
            PinnedArray(context, shape, np.float32, on_device=False)
            for address, shape in self._network.outputs
            if address
        ]
        self._input: PinnedArray | None = None
        self._bell, self._strategy, self._timeline = bell, strategy, timeline
        self._frame: Frame | None = None
        self._placement: Placement | None = None
        self._constants = _normalisation(spec)
        self._tuned: tuple[float, float] | None = None  # thresholds that wait for the next frame

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._tuned = (score, iou)

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        assert self._frame is None, "the slot is busy"
        self._context.check_thread()
        self._frame = frame
        try:
            self._enqueue(frame)
        except self._driver.Error as fault:
            raise lost(self._context.name, fault) from fault

    def _enqueue(self, frame: Frame) -> None:
        if self._placement is None or self._placement.source_wh != frame.wh_px:
            spec = self._spec.input
            self._placement = place(frame.wh_px, spec.size_wh, resize=spec.resize, align=spec.align)
        self._prepare(frame, mapped=self._strategy.decide(partial(self._trial_ns, frame)))
        self._timeline.tick()
        self._recorder.launch()
        self._done.record(self._stream)
        self._bell.enqueue(self._stream)

    def _prepare(self, frame: Frame, *, mapped: bool) -> None:
        """The frame into the slot's memory, and a recording that fits both."""
        assert self._placement is not None
        if self._tuned is not None:
            (score, iou), self._tuned = self._tuned, None
            self._postprocess.tune(score=score, iou=iou)
            if self._boxes is not None:
                self._boxes.tune(score=score, iou=iou)
                self._recorded = ()  # thresholds are arguments of the recorded launches
        memory = self._memory_for(frame, mapped=mapped)
        memory.check()
        flat = frame.pixels.reshape(-1)
        memory.host[: flat.size] = flat
        layout = (frame.pixels.shape, frame.pixels.strides, frame.format, int(memory.device))
        if layout != self._recorded:
            if self._boxes is not None:
                self._boxes.put_results(mapped=mapped)
            # without its pixels, which would otherwise live as long as the recording
            like = _Layout(frame.wh_px, frame.pixels.strides[0], frame.format, frame.pixels.nbytes)
            self._recorder.record(partial(self._issue, like, memory, self._placement))
            self._recorded = layout

    def _trial_ns(self, frame: Frame, mapped: bool) -> float:
        """How long the frame takes, alone on the device: the median of a few runs."""
        self._prepare(frame, mapped=mapped)
        times = []
        for _ in range(TRIALS):
            self._recorder.launch()
            self._recorder.wait()
            times.append(self._recorder.between_ns(0, len(STAGES)))
        return median(times[1:])

    def _issue(self, frame: _Layout, memory: PinnedArray, placement: Placement, mark: Mark) -> None:
        """Put one frame's work on the stream, or into the recording that is made of it."""
        stream = self._stream
        mark(0)
        memory.upload(stream, frame.nbytes)
        mark(1)
        self._launch_preprocess(frame, memory, placement)
        mark(2)
        self._network.enqueue(stream)
        mark(3)
        if self._boxes is not None:
            self._boxes.enqueue(stream)
        mark(4)
        if self._boxes is not None:
            self._boxes.download(stream)
        else:
            self._download_outputs()
        mark(5)

    def ready(self) -> bool:
        """See interfaces.Slot. A fault counts as ready: ``collect`` tells it."""
        try:
            return bool(self._done.query())
        except self._driver.Error:
            return True

    def collect(self) -> tuple[Detections, Mapping[str, int]]:
        """See interfaces.Slot."""
        assert self._frame is not None and self._placement is not None, "nothing was enqueued"
        self._frame = None
        try:
            self._done.synchronize()
            times = {name: self._recorder.between_ns(i, i + 1) for i, name in enumerate(STAGES)}
            if not self._strategy.mapped:  # else nothing is copied
                self._timeline.add(self._recorder)
        except self._driver.Error as fault:
            raise lost(self._context.name, fault) from fault
        return self._detections(self._placement), times

    def _detections(self, placement: Placement) -> Detections:
        rows = None if self._boxes is None else self._boxes.rows()
        if rows is not None and self._boxes is not None:
            self._postprocess.sanity.note(self._boxes.broken())
            ids = rows[:, 5].astype(np.intp)
            return in_source(Candidates(rows[:, :4].copy(), rows[:, 4].copy(), ids), placement)
        if self._varies:
            return self._postprocess(self._network.varying(), placement)
        if self._boxes is not None:  # more candidates than the device has room for
            self._download_outputs()
            self._stream.synchronize()
        return self._postprocess([output.host for output in self._outputs], placement)

    def _download_outputs(self) -> None:
        if self._varies:
            return
        for (address, _), output in zip(self._network.outputs, self._outputs, strict=True):
            output.download(self._stream, address)

    def _device_boxes(self, context: GpuContext, score: float, iou: float) -> DeviceBoxes | None:
        if self._varies or not knows(self._spec):
            return None
        ((address, shape),) = self._network.outputs
        count = output_cells(self._spec, shape)
        grid = np.zeros((count, 3), np.float32)
        if self._spec.family == "yolox":
            strides = tuple(self._spec.parameters.get("strides", STRIDES))
            grid = grid_table(*cells(self._spec.input.size_wh, strides))
        return DeviceBoxes(context, self._spec, address, grid=grid, score=score, iou=iou)

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._recorder.close()
        for memory in (self._input, *self._outputs):
            if memory is not None:
                memory.close()
        if self._boxes is not None:
            self._boxes.close()
            self._boxes = None
        self._network.close()
        self._outputs.clear()
        del self._stream, self._preprocess, self._done, self._recorder

    def _memory_for(self, frame: Frame, *, mapped: bool) -> PinnedArray:
        """The slot's frame memory; made anew only when a larger frame comes."""
        wanted = frame.pixels.nbytes
        old = self._input
        if old is None or old.host.nbytes < wanted or old.mapped != mapped:
            self._recorded = ()
            if old is not None:
                old.close()
            self._input = None  # should the next line fail, nothing is freed twice
            self._input = PinnedArray(self._context, (wanted,), np.uint8, mapped=mapped)
        assert self._input is not None
        return self._input

    def _launch_preprocess(self, frame: _Layout, memory: PinnedArray, p: Placement) -> None:
        spec = self._spec.input
        out_w, out_h = spec.size_wh
        grid = (-(-out_w // BLOCK[0]), -(-out_h // BLOCK[1]))
        self._preprocess(
            grid,
            BLOCK,
            self._stream,
            memory.device,
            self._network.input,
            *frame.wh_px,
            frame.pitch,
            FORMATS.index(frame.format),
            *spec.size_wh,
            *(p.x, p.y, p.w, p.h),
            int(spec.channels == "RGB"),
            *self._constants,
        )


class _Layout(NamedTuple):
    """How a frame lies in memory."""

    wh_px: tuple[int, int]
    pitch: int  # bytes of a line
    format: PixelFormat
    nbytes: int


def _normalisation(spec: ModelSpec) -> list[np.float32]:
    """Scale and shift of the three channels, in the network's order, and the padding's value."""
    std = np.array(spec.input.std, np.float64)
    scale = spec.input.scale / std
    shift = -np.array(spec.input.mean, np.float64) / std
    return [np.float32(v) for v in (*scale, *shift, spec.input.pad)]
