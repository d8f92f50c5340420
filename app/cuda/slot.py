"""The CUDA engine's slots: frames, stream, events and recorded launches in flight.

A GPU that one frame leaves half idle computes several in hardly more time: the network runs once
for all, their boxes are found and copied back at once. Each frame is preprocessed by a launch of
its own, whatever its size and format. Those that need another size of the input are another slot's
(cuda_fit.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from ..core.detections import Detections
from ..core.frame import Frame, PixelFormat
from ..core.letterbox import Placement, place
from ..inference.postprocess import Limits, Sanity
from ..models.manifest import InputSpec, ModelSpec
from .context import Bell, GpuContext, PinnedArray, lost
from .graph import Mark, Recorder, Recordings
from .kernels import load_kernel, load_module
from .native.engine import Engine
from .outputs import Found
from .timing import Strategy, Timeline

FORMATS = ("bgr8", "bgra8", "gray8", "yuyv", "nv12")
SIGNATURE = "PP" + "i" * 11 + "f" * 7
BLOCK = (32, 8, 1)


class Layout(NamedTuple):
    """How a frame lies in its memory, and where it goes in the network's input."""

    wh_px: tuple[int, int]
    pitch: int  # bytes of a line
    format: PixelFormat
    nbytes: int
    placement: Placement


class FrameInput:
    """The memory of one frame of a slot; it grows with the frames that come."""

    def __init__(self, context: GpuContext, spec: InputSpec, kernel: Callable[..., None]) -> None:
        self._context, self._spec = context, spec
        self._kernel: Callable[..., None] | None = kernel
        self._constants = _normalisation(spec)
        self._memory: PinnedArray | None = None
        self._placement: Placement | None = None

    def has_room(self, frame: Frame, *, mapped: bool) -> bool:
        """Whether the memory is there, large enough and of that kind."""
        memory = self._memory
        return (
            memory is not None
            and memory.host.nbytes >= frame.pixels.nbytes
            and memory.mapped == mapped
        )

    def make_room(self, frame: Frame, *, mapped: bool) -> None:
        """Other memory, for this frame; nothing may be pending."""
        self._free()
        self._memory = PinnedArray(self._context, (frame.pixels.nbytes,), np.uint8, mapped=mapped)

    def take(self, frame: Frame) -> Layout:
        """Copy the frame into the memory."""
        assert self._memory is not None
        self._memory.check()
        flat = frame.pixels.reshape(-1)
        self._memory.host[: flat.size] = flat
        wh_px = frame.wh_px
        if self._placement is None or self._placement.source_wh != wh_px:
            spec = self._spec
            self._placement = place(wh_px, spec.size_wh, resize=spec.resize, align=spec.align)
        pitch, nbytes = frame.pixels.strides[0], frame.pixels.nbytes
        return Layout(wh_px, pitch, frame.format, nbytes, self._placement)

    def upload(self, stream: Any, layout: Layout) -> None:
        """Enqueue the copy to the device."""
        assert self._memory is not None
        self._memory.upload(stream, layout.nbytes)

    def preprocess(self, stream: Any, layout: Layout, tensor: int) -> None:
        """Enqueue the kernel that writes the input tensor at an address."""
        assert self._memory is not None and self._kernel is not None
        out_w, out_h = self._spec.size_wh
        p = layout.placement
        self._kernel(
            (-(-out_w // BLOCK[0]), -(-out_h // BLOCK[1])),
            BLOCK,
            stream,
            self._memory.device,
            tensor,
            *layout.wh_px,
            layout.pitch,
            FORMATS.index(layout.format),
            *(out_w, out_h),
            *(p.x, p.y, p.w, p.h),
            int(self._spec.channels == "RGB"),
            *self._constants,
        )

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._free()
        self._kernel = None  # an error on its way may still know of us

    def _free(self) -> None:
        memory, self._memory = self._memory, None  # should other memory fail, it is freed once
        if memory is not None:
            memory.close()


def preprocess_kernel(context: GpuContext, *, half: bool) -> Callable[..., None]:
    """What ``FrameInput`` launches; ``half``: for a tensor in half precision."""
    module = load_module(context, "preprocess", defines=["HALF"] * half)
    return load_kernel(module, "preprocess", SIGNATURE)


def _normalisation(spec: InputSpec) -> list[np.float32]:
    """Scale and shift of the three channels, in the network's order, and the padding's value."""
    std = np.array(spec.std, np.float64)
    scale = spec.scale / std
    shift = -np.array(spec.mean, np.float64) / std
    return [np.float32(v) for v in (*scale, *shift, spec.pad)]


STAGES = ("upload", "preprocess", "network", "postprocess", "download")
TRIALS = 7  # runs of the first frame with each way of transfer; the first does not count
# of a slot for batches: their numbers of frames, and mixtures of sizes, come again
RECORDINGS = 32

Answer = tuple[Detections, Mapping[str, int]]


class CudaSlot:
    """One frame in flight. What is common with batches works on up to ``engine.batch`` frames."""

    def __init__(
        self,
        context: GpuContext,
        engine: Engine,
        spec: ModelSpec,
        *,
        bell: Bell,
        strategy: Strategy,
        timeline: Timeline,
        limits: Limits,
        sanity: Sanity,
    ) -> None:
        self.spec = spec
        self._context, self._driver = context, context.driver
        self._stream = self._driver.Stream()
        self._done = self._driver.Event()
        first = Recorder(context, self._stream, len(STAGES) + 1, capture=engine.captured)
        self._recordings = Recordings(context, first, RECORDINGS if engine.batch > 1 else 1)
        self._running: Recorder | None = None
        self._network = engine.network(self._stream)
        half = self._network.input_half
        kernel = preprocess_kernel(context, half=half)
        self._inputs = [FrameInput(context, spec.input, kernel) for _ in range(engine.batch)]
        width, height = spec.input.size_wh
        self._frame_nbytes = 3 * width * height * (2 if half else 4)  # in the input tensor
        self._found = Found(
            *(context, spec, self._network, self._stream),
            batch=engine.batch,
            limits=limits,
            sanity=sanity,
        )
        self._bell, self._strategy, self._timeline = bell, strategy, timeline
        self._order: Sequence[int] = ()  # of the frames in flight: their places in the batch
        self._layouts: Sequence[Layout] = ()

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        self._start((frame,))

    def collect(self) -> Answer:
        """See interfaces.Slot."""
        (answer,) = self._finish()
        return answer

    def _start(self, frames: Sequence[Frame]) -> None:
        assert not self._order, "the slot is busy"
        self._context.check_thread()
        # frames of a kind side by side: however their sources take turns, one recording fits
        self._order = sorted(range(len(frames)), key=lambda i: _kind(frames[i]))
        try:
            self._enqueue([frames[i] for i in self._order])
        except self._driver.Error as fault:
            raise lost(self._context.name, fault) from fault

    def _enqueue(self, frames: Sequence[Frame]) -> None:
        mapped = self._strategy.decide(partial(self._trial_ns, frames))
        self._running = self._prepared(frames, mapped=mapped)
        self._timeline.tick()
        self._running.launch()
        self._done.record(self._stream)
        self._bell.enqueue(self._stream)

    def _prepared(self, frames: Sequence[Frame], *, mapped: bool) -> Recorder:
        """The frames into the slot's memory, and a recording that fits both."""
        if self._found.refresh(mapped=mapped):
            self._recordings.forget()
        for inlet, frame in zip(self._inputs, frames, strict=False):
            if not inlet.has_room(frame, mapped=mapped):
                self._recordings.forget()
                inlet.make_room(frame, mapped=mapped)
        self._layouts = tuple(
            inlet.take(frame) for inlet, frame in zip(self._inputs, frames, strict=False)
        )
        # without the pixels, which would otherwise live as long as the recording
        return self._recordings.of(self._layouts, partial(self._issue, self._layouts))

    def _trial_ns(self, frames: Sequence[Frame], mapped: bool) -> float:
        """How long a frame takes, with these alone on the device: the median of a few runs."""
        recorder = self._prepared(frames, mapped=mapped)
        times = []
        for _ in range(TRIALS):
            recorder.launch()
            recorder.wait()
            times.append(recorder.between_ns(0, len(STAGES)))
        return median(times[1:]) / len(frames)

    def _issue(self, layouts: Sequence[Layout], mark: Mark) -> None:
        """Put the frames' work on the stream, or into the recording that is made of it."""
        run = self._network.run_for(len(layouts))
        mark(0)
        for inlet, layout in zip(self._inputs, layouts, strict=False):
            inlet.upload(self._stream, layout)
        mark(1)
        for i, layout in enumerate(layouts):
            self._inputs[i].preprocess(self._stream, layout, run.input + i * self._frame_nbytes)
        mark(2)
        run.enqueue(self._stream)
        mark(3)
        self._found.enqueue(len(layouts))
        mark(4)
        self._found.download(len(layouts))
        mark(5)

    def ready(self) -> bool:
        """See interfaces.Slot. A fault counts as ready: ``collect`` tells it."""
        try:
            return bool(self._done.query())
        except self._driver.Error:
            return True

    def _finish(self) -> list[Answer]:
        """Of the frames in flight, in the order in which they came."""
        assert self._order and self._running is not None, "nothing was enqueued"
        order, self._order = self._order, ()
        count = len(order)
        try:
            self._done.synchronize()
            marks = self._timeline.marks_ns(self._running)
        except self._driver.Error as fault:
            raise lost(self._context.name, fault) from fault
        if not self._strategy.mapped:  # else nothing is copied
            self._timeline.add(marks, frames=count)
        times = {name: (marks[i + 1] - marks[i]) // count for i, name in enumerate(STAGES)}
        found = self._found.detections([layout.placement for layout in self._layouts])
        answers = dict(zip(order, found, strict=True))
        return [(answers[i], times) for i in range(count)]

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._recordings.close()
        for inlet in self._inputs:
            inlet.close()
        self._found.close()
        self._network.close()
        del self._stream, self._inputs, self._done, self._recordings, self._running


def _kind(frame: Frame) -> tuple[int, tuple[int, ...], str]:
    """Largest first: the first places get the most memory."""
    return -frame.pixels.nbytes, frame.pixels.shape, frame.format


class BatchCudaSlot(CudaSlot):
    """``capacity`` frames in flight. Fewer run with the next larger of the engine's runs (1, 2,
    4 …), at the price of that many frames, and leave its last places as they were."""

    @property
    def capacity(self) -> int:
        """See interfaces.BatchSlot."""
        return len(self._inputs)

    def enqueue_all(self, frames: Sequence[Frame]) -> None:
        """See interfaces.BatchSlot."""
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self._start(frames)

    def collect_all(self) -> list[Answer]:
        """See interfaces.BatchSlot."""
        return self._finish()
