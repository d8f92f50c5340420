"""What is in flight on the GPU: a slot's frames, stream, events and recorded launches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from app.backends.cuda_engine import Engine
from app.backends.cuda_found import Found
from app.backends.cuda_frame import FrameInput, Layout, preprocess_kernel
from app.backends.postprocess import Limits
from app.backends.sanity import Sanity
from app.detections import Detections
from app.frame import Frame
from app.gpu.context import GpuContext, lost
from app.gpu.recording import Mark, Recorder
from app.gpu.recordings import Recordings
from app.gpu.strategy import Strategy
from app.gpu.timeline import Timeline
from app.gpu.transfer import Bell
from app.model_spec import ModelSpec

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
        for place, frame in zip(self._inputs, frames, strict=False):
            if not place.has_room(frame, mapped=mapped):
                self._recordings.forget()
                place.make_room(frame, mapped=mapped)
        self._layouts = tuple(
            place.take(frame) for place, frame in zip(self._inputs, frames, strict=False)
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
        for place, layout in zip(self._inputs, layouts, strict=False):
            place.upload(self._stream, layout)
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
        for place in self._inputs:
            place.close()
        self._found.close()
        self._network.close()
        del self._stream, self._inputs, self._done, self._recordings, self._running


def _kind(frame: Frame) -> tuple[int, tuple[int, ...], str]:
    """Largest first: the first places get the most memory."""
    return -frame.pixels.nbytes, frame.pixels.shape, frame.format
