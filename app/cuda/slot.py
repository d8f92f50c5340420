"""The slots of the CUDA engines: pinned memory, stream, events and captured launches.

A GPU that one frame leaves half idle computes several in hardly more time: the network runs once
for all, their boxes are found and copied back at once. Each frame is preprocessed by a launch of
its own, whatever its size and format. A captured graph holds addresses and shapes, so each input
shape has buffers, graphs and an engine of its own (`CudaBinding`), made when a frame first needs it
and freed when none has for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..core.frame import Colour, Frame, PixelFormat, yuv_to_bgr
from ..core.interfaces import Answer
from ..core.letterbox import Placement, place
from ..inference.postprocess import Limits, NanGuard
from ..inference.shape_cache import KEPT, ShapeCache, Size, merged
from ..models.manifest import InputSpec, ModelSpec
from .context import Bell, GpuContext, PinnedArray, lost
from .graph import CudaGraph, CudaGraphCache, Mark
from .kernels import load_kernel, load_module
from .native.engine import GpuEngine
from .outputs import DetectionReadback
from .timing import DeviceTimeline, TransferMode

FORMATS = ("bgr8", "bgra8", "gray8", "yuyv", "nv12", "i420")
SIGNATURE = "PP" + "i" * 11 + "f" * 13
BLOCK = (32, 8, 1)


class Layout(NamedTuple):
    """How a frame lies in its memory, and where it goes in the network's input."""

    wh_px: tuple[int, int]
    pitch: int  # bytes of a line
    format: PixelFormat
    colour: Colour
    nbytes: int
    placement: Placement


class FrameInput:
    """The memory of one frame of a slot; it grows with the frames that come."""

    def __init__(self, context: GpuContext, spec: InputSpec, kernel: Callable[..., None]) -> None:
        self._context, self._spec = context, spec
        self._kernel: Callable[..., None] | None = kernel
        self._constants = _normalisation(spec)
        self._memory: PinnedArray | None = None
        self._placement: tuple[tuple[Size, float], Placement] | None = None  # of the last shape

    def ensure_room(self, frame: Frame, *, mapped: bool) -> bool:
        """Have memory of this kind that is large enough; nothing may be pending.

        Whether it is other memory than before.
        """
        memory, nbytes = self._memory, frame.pixels.nbytes
        if memory is not None and memory.host.nbytes >= nbytes and memory.mapped == mapped:
            return False
        self._free()
        self._memory = PinnedArray(self._context, (nbytes,), np.uint8, mapped=mapped)
        return True

    def take(self, frame: Frame) -> Layout:
        """Copy the frame into the memory."""
        assert self._memory is not None
        self._memory.check()
        flat = frame.pixels.reshape(-1)
        self._memory.host[: flat.size] = flat
        pitch, nbytes = frame.pixels.strides[0], frame.pixels.nbytes
        placement = self._place(frame.wh_px, frame.pixel_aspect)
        return Layout(frame.wh_px, pitch, frame.format, frame.colour, nbytes, placement)

    def _place(self, wh_px: Size, pixel_aspect: float) -> Placement:
        shape = wh_px, pixel_aspect
        if self._placement is None or self._placement[0] != shape:
            spec = self._spec
            placement = place(
                wh_px,
                spec.size_wh,
                resize=spec.resize,
                align=spec.align,
                pixel_aspect=pixel_aspect,
            )
            self._placement = shape, placement
        return self._placement[1]

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
            *yuv_numbers(layout.colour),
        )

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._free()
        self._kernel = None  # an error on its way may still know of us

    def _free(self) -> None:
        memory, self._memory = self._memory, None  # should other memory fail, it is freed once
        if memory is not None:
            memory.close()


@cache
def yuv_numbers(colour: Colour) -> tuple[np.float32, ...]:
    """The kernel's last six: luma of black, its gain, U in blue and green, V in green and red."""
    rows = yuv_to_bgr(colour)
    black = 0 if colour.full_range else 16
    numbers = (black, rows[0, 0], rows[0, 1], rows[1, 1], rows[1, 2], rows[2, 2])
    return tuple(map(np.float32, numbers))


def _normalisation(spec: InputSpec) -> list[np.float32]:
    """Scale and shift of the three channels, in the network's order, and the padding's value."""
    std = np.array(spec.std, np.float64)
    scale = spec.scale / std
    shift = -np.array(spec.mean, np.float64) / std
    return [np.float32(v) for v in (*scale, *shift, spec.pad)]


STAGES = ("upload", "preprocess", "network", "postprocess", "download")
TRIALS = 5  # runs of the first frame in each slot, with each way of transfer
GRAPHS = 32  # of a slot for several frames: their numbers, and mixtures of sizes, come again


class CudaBinding:
    """A slot's buffers, stream and graphs for one input shape, and up to ``engine.batch`` frames.

    Fewer frames run with the next larger of the engine's runs (1, 2, 4 …), at the price of that
    many, and leave its last places as they were.
    """

    def __init__(
        self,
        context: GpuContext,
        engine: GpuEngine,
        spec: ModelSpec,
        *,
        bell: Bell,
        transfer: TransferMode,
        timeline: DeviceTimeline,
        limits: Limits,
        nan_guard: NanGuard,
        peers: Callable[[Frame], Sequence[CudaBinding]],
    ) -> None:
        """``peers``: those of all slots for frames of a shape, this one too."""
        self.spec = spec
        self._driver = context.driver
        self._stream = self._driver.Stream()
        self._done = self._driver.Event()
        graph = partial(CudaGraph, context, self._stream, capture=engine.captured)
        self._graphs = [  # without marks, and with them
            CudaGraphCache(partial(graph, marks=marks), GRAPHS if engine.batch > 1 else 1)
            for marks in (0, len(STAGES) + 1)
        ]
        self._running: CudaGraph | None = None
        self.network = engine.network(self._stream)
        half = self.network.input_half
        module = load_module(context, "preprocess", defines=["HALF"] * half)
        kernel = load_kernel(module, "preprocess", SIGNATURE)
        self._inputs = [FrameInput(context, spec.input, kernel) for _ in range(engine.batch)]
        width, height = spec.input.size_wh
        self._frame_nbytes = 3 * width * height * (2 if half else 4)  # in the input tensor
        self._readback = DetectionReadback(
            *(context, spec, self.network, self._stream),
            batch=engine.batch,
            limits=limits,
            nan_guard=nan_guard,
        )
        self._bell, self._transfer, self._timeline = bell, transfer, timeline
        self._peers = peers
        self._order: Sequence[int] = ()  # of the frames in flight: their places in the batch
        self._layouts: Sequence[Layout] = ()

    def enqueue(self, frames: Sequence[Frame]) -> None:
        """Start work on frames of this input shape; raises the driver's errors."""
        # frames of a kind side by side: however their sources take turns, one graph fits
        self._order = sorted(range(len(frames)), key=lambda i: _kind(frames[i]))
        frames = [frames[i] for i in self._order]
        mapped = self._transfer.decide(partial(self._trial_ns, frames))
        self._running = self._prepared(frames, mapped=mapped)[self._timeline.tick()]
        self._running.launch()
        self._done.record(self._stream)
        self._bell.enqueue(self._stream)

    def _prepared(self, frames: Sequence[Frame], *, mapped: bool) -> list[CudaGraph]:
        """The frames into the slot's memory, and graphs that fit both: without marks, and with."""
        stale = self._readback.refresh(mapped=mapped)
        for inlet, frame in zip(self._inputs, frames, strict=False):
            stale |= inlet.ensure_room(frame, mapped=mapped)
        if stale:
            self._clear()
        self._layouts = tuple(
            inlet.take(frame) for inlet, frame in zip(self._inputs, frames, strict=False)
        )
        # without the pixels, which would otherwise live as long as the graph
        work = partial(self._issue, self._layouts)
        return [graphs.of(self._layouts, work) for graphs in self._graphs]

    def _clear(self) -> None:
        for graphs in self._graphs:
            graphs.clear()

    def _trial_ns(self, frames: Sequence[Frame], mapped: bool) -> float:
        """How long a frame takes while all slots compute these, one run after the other."""
        peers = [each._prepared(frames, mapped=mapped) for each in self._peers(frames[0])]

        def work(runs: int) -> list[CudaGraph]:
            for _ in range(runs):
                for _, timed in peers:
                    timed.launch()
            return [timed for _, timed in peers]

        for graph in work(1):  # the first run loads the kernels, and wakes the clocks
            graph.wait()
        took_ns = self._timeline.span_ns(lambda: work(TRIALS))
        return took_ns / (TRIALS * len(peers) * len(frames))

    def _issue(self, layouts: Sequence[Layout], mark: Mark) -> None:
        """Put the frames' work on the stream, or into the graph that is captured of it."""
        run = self.network.run_for(len(layouts))
        mark(0)
        for inlet, layout in zip(self._inputs, layouts, strict=False):
            inlet.upload(self._stream, layout)
        mark(1)
        for i, layout in enumerate(layouts):
            self._inputs[i].preprocess(self._stream, layout, run.input + i * self._frame_nbytes)
        mark(2)
        run.enqueue(self._stream)
        mark(3)
        self._readback.enqueue(len(layouts))
        mark(4)
        self._readback.download(len(layouts))
        mark(5)

    def ready(self) -> bool:
        """Whether the frames are done; raises the driver's errors."""
        return bool(self._done.query())

    def collect(self) -> list[Answer]:
        """An answer for each frame, in the order in which they came, with times where they were
        taken; raises the driver's errors."""
        assert self._running is not None
        count, times = len(self._order), {}
        self._done.synchronize()
        if self._running.timed:
            marks = self._timeline.marks_ns(self._running)
            if not self._transfer.mapped:  # else nothing is copied
                self._timeline.add(marks, frames=count)
            times = {name: (marks[i + 1] - marks[i]) // count for i, name in enumerate(STAGES)}
        found = self._readback.detections([layout.placement for layout in self._layouts])
        answers = dict(zip(self._order, found, strict=True))
        return [(answers[i], times) for i in range(count)]

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._clear()
        for inlet in self._inputs:
            inlet.close()
        self._readback.close()
        self.network.close()
        del self._stream, self._inputs, self._done, self._graphs, self._running, self._peers


def _kind(frame: Frame) -> tuple[int, tuple[int, ...], str, Colour, float]:
    """Largest first: the first places get the most memory."""
    shape, nbytes = frame.pixels.shape, frame.pixels.nbytes
    return -nbytes, shape, frame.format, frame.colour, frame.pixel_aspect


class CudaSlot:
    """Up to ``capacity`` frames in flight; those of an input shape go through the network together.

    ``bind`` makes the buffers for the input of a spec, ``release`` frees them. Pipeline thread
    only.
    """

    def __init__(
        self,
        context: GpuContext,
        spec: ModelSpec,
        bind: Callable[[ModelSpec], CudaBinding],
        release: Callable[[CudaBinding], None],
        *,
        capacity: int,
    ) -> None:
        self._context, self.capacity = context, capacity
        # a batch may need as many shapes as it has frames, and all of them at once
        self.shapes = ShapeCache(spec, bind, drop=release, most=max(KEPT, capacity))
        self._busy: dict[CudaBinding, list[int]] = {}  # and the indices of its frames

    def prepare(self, wh_px: Size, pixel_aspect: float = 1.0) -> None:
        """See interfaces.Fitted."""
        self.shapes.for_frame(wh_px, pixel_aspect)

    def enqueue(self, frames: Sequence[Frame]) -> None:
        """See interfaces.Slot."""
        assert not self._busy, "the slot is busy"
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self._context.check_thread()
        busy = self.shapes.group(frames)
        try:
            for binding, indices in busy.items():
                binding.enqueue(frames if len(busy) == 1 else [frames[i] for i in indices])
        except self._context.driver.Error as fault:
            raise lost(self._context.name, fault) from fault
        self._busy = busy

    def ready(self) -> bool:
        """See interfaces.Slot. A fault counts as ready: ``collect`` tells it."""
        try:
            return all(binding.ready() for binding in self._busy)
        except self._context.driver.Error:
            return True

    def collect(self) -> Sequence[Answer]:
        """See interfaces.Slot."""
        assert self._busy, "nothing was enqueued"
        busy, self._busy = self._busy, {}
        try:
            return merged([(indices, binding.collect()) for binding, indices in busy.items()])
        except self._context.driver.Error as fault:
            raise lost(self._context.name, fault) from fault

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Input sizes bound at present; any thread."""
        return self.shapes.sizes

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        self._busy = {}
        self.shapes.close()
