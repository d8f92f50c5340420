"""The CPU engines: ONNX Runtime or OpenVINO behind slots that share a few worker threads.

Where a network takes any size, only the part of its input that holds a frame's letterbox is
computed: of a square and a 16:9 frame that is 60 %.

Weights are read once for all of them, which gives some percent on a CPU; the order of magnitude
that GPUs gain is not to be had here. Each frame is pre- and postprocessed as if it were alone, and
those that need another size of the input have a run of their own: their boxes are the same.

A worker does one frame's preprocessing, inference and postprocessing one after the other, so one
frame's cv2 and Python work overlaps another's inference and nothing waits at a thread pool's
barrier. Where throughput counts there is one slot more than workers: results leave in order, and a
worker that is done before its predecessor finds the next frame already waiting (on 2 cores that
gives 13 % more frames per second). Inputs and outputs are bound once for each size of input.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from ..core.detections import Detections
from ..core.frame import Frame
from ..core.interfaces import EngineKind
from ..models.families.base import Shapes
from ..models.manifest import ModelSpec
from .onnxruntime import BoundBatch, BoundNetwork, CpuNetwork, OpenNetwork, OrtNetwork
from .postprocess import Limits, Postprocessor, Sanity, overflow_ignored
from .preprocess import CpuPreprocessor

log = logging.getLogger(__name__)


Kept = TypeVar("Kept")
Size = tuple[int, int]  # width, height
KEPT = 8  # sizes, the latest used: sources of several shapes, and the canary, take turns


class BySize(Generic[Kept]):
    """What ``make`` gives for the input of a spec, made when a frame first needs that size.

    For a network of one size it is made at once. ``drop`` lets go of what is not kept any longer.
    One worker's; ``sizes`` from any thread.
    """

    def __init__(
        self,
        spec: ModelSpec,
        make: Callable[[ModelSpec], Kept],
        *,
        drop: Callable[[Kept], None] = lambda kept: None,
        most: int = KEPT,
    ) -> None:
        self._spec, self._make, self._drop, self._most = spec, make, drop, most
        self._kept: dict[Size, Kept] = {}
        if not spec.input.fit:
            self._kept[spec.input.size_wh] = make(spec)

    def for_frame(self, wh_px: tuple[int, int]) -> Kept:
        """For frames of this size; raises what ``make`` raises."""
        size = self._spec.input.size_for(wh_px)
        kept = self._kept.pop(size, None)
        if kept is None:
            kept = self._make(self._spec.for_frame(wh_px))
        self._kept[size] = kept
        if len(self._kept) > self._most:
            self._drop(self._kept.pop(next(iter(self._kept))))
        return kept

    def close(self) -> None:
        """Let go of all of it."""
        while self._kept:
            self._drop(self._kept.popitem()[1])

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Those that are there, the latest used last."""
        return tuple(self._kept)


def cut_remark(spec: ModelSpec, slots: Iterable[tuple[Size, ...]]) -> Sequence[str]:
    """How much of the input was computed, where that was not all; ``slots``: the sizes of each."""
    whole = spec.input.size_wh
    cut = {size for sizes in slots for size in sizes} - {whole}
    if not cut:
        return ()
    sizes = ", ".join("{}x{}".format(*size) for size in sorted(cut))
    return ("input {}, as much of {}x{} as the frames need".format(sizes, *whole),)


Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class WorkerSlot(Generic[Job, Outcome]):
    """One job at a time: ``put`` and ``get`` on the pipeline thread, ``work`` on a worker's."""

    def __init__(
        self,
        *,
        queue: SimpleQueue[WorkerSlot[Job, Outcome] | None],
        wake: Callable[[], None],
    ) -> None:
        self._queue, self._wake = queue, wake
        self._job: Job | None = None
        self._answer: Outcome | BaseException | None = None
        self._busy = threading.Lock()  # held until it is done; an Event costs three of it

    @abstractmethod
    def process(self, job: Job) -> Outcome:
        """The work itself."""

    def put(self, job: Job) -> None:
        """Start; the slot must be idle."""
        assert self._job is None, "the slot is busy"
        self._job = job
        self._busy.acquire()
        self._queue.put(self)

    def ready(self) -> bool:
        """See interfaces.Slot."""
        return not self._busy.locked()

    def get(self) -> Outcome:
        """Wait for the answer, or raise what went wrong."""
        assert self._job is not None, "nothing was enqueued"
        with self._busy:
            pass
        answer, self._answer, self._job = self._answer, None, None
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    def work(self) -> None:
        """The whole job, on a worker thread; an error is kept for ``get``."""
        assert self._job is not None
        try:
            self._answer = self.process(self._job)
        except BaseException as error:
            self._answer = error
        self._busy.release()
        self._wake()


class SizedSlot(WorkerSlot[Job, Outcome], Generic[Job, Outcome, Kept]):
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


Answers = list[tuple[Detections, Mapping[str, int]]]


class _SizedBatch:
    """What a slot has for one size of the input."""

    def __init__(self, spec: ModelSpec, network: BoundBatch, postprocess: Postprocessor) -> None:
        self._network, self._postprocess = network, postprocess
        count = len(network.tensor)
        # one for each place in the batch: it keeps what suits its frame's size, and the padding
        self._preprocess = [CpuPreprocessor(spec.input) for _ in range(count)]
        self._places = [network.tensor[i : i + 1] for i in range(count)]

    def run(self, frames: Sequence[Frame]) -> Answers:
        """All of them need this size."""
        count = len(frames)
        start_ns = perf_counter_ns()
        placements = [
            preprocess(frame, place)
            for frame, preprocess, place in zip(
                frames, self._preprocess, self._places, strict=False
            )
        ]
        ready_ns = perf_counter_ns()
        outputs = self._network.run(count)
        done_ns = perf_counter_ns()
        found = [
            self._postprocess.on_ready_thread([output[i : i + 1] for output in outputs], placement)
            for i, placement in enumerate(placements)
        ]
        stages = {
            "preprocess": (ready_ns - start_ns) // count,
            "network": (done_ns - ready_ns) // count,
            "postprocess": (perf_counter_ns() - done_ns) // count,
        }
        return [(detections, stages) for detections in found]


class BatchCpuSlot(SizedSlot[Sequence[Frame], Answers, _SizedBatch]):
    """As many frames in flight as the bound network has places."""

    def __init__(
        self, spec: ModelSpec, network: CpuNetwork, *, capacity: int, **common: Any
    ) -> None:
        """``common``: see SizedSlot."""
        self.capacity = capacity
        if spec.input.fit:
            network.bind_batch(spec, 1)  # what takes no batches is told before there is a frame
        super().__init__(spec, network, **common)

    def make(self, spec: ModelSpec) -> _SizedBatch:
        """See SizedSlot."""
        network = self.network.bind_batch(spec, self.capacity)
        if not spec.input.fit:
            network.run(self.capacity)  # what a first run allocates, before there is a frame
        return _SizedBatch(spec, network, self.postprocessor(spec, network.shapes))

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        self.put((frame,))

    def enqueue_all(self, frames: Sequence[Frame]) -> None:
        """See interfaces.BatchSlot."""
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self.put(frames)

    def collect(self) -> tuple[Detections, Mapping[str, int]]:
        """See interfaces.Slot."""
        return self.get()[0]

    def collect_all(self) -> Answers:
        """See interfaces.BatchSlot."""
        return self.get()

    def process(self, frames: Sequence[Frame]) -> Answers:
        """On a worker thread."""
        parts: dict[_SizedBatch, list[int]] = {}
        for i, frame in enumerate(frames):
            parts.setdefault(self.by_size.for_frame(frame.wh_px), []).append(i)
        if len(parts) == 1:
            return next(iter(parts)).run(frames)
        answers: dict[int, Any] = {}
        for sized, numbers in parts.items():
            answers.update(zip(numbers, sized.run([frames[i] for i in numbers]), strict=True))
        return [answers[i] for i in range(len(frames))]


Answer = tuple[Detections, Mapping[str, int]]


class _Sized(NamedTuple):
    """What a slot has for one size of the input."""

    network: BoundNetwork
    preprocess: CpuPreprocessor
    postprocess: Postprocessor


class CpuSlot(SizedSlot[Frame, Answer, _Sized]):
    """One frame in flight and its buffers, bound once for each size of the input."""

    _now: _Sized
    _layout: tuple[object, ...] = ()  # of the pixels that ``_now`` is for

    def make(self, spec: ModelSpec) -> _Sized:
        """See SizedSlot."""
        network = self.network.bind(spec)
        if not spec.input.fit:
            network.run()  # what a first run allocates, before there is a frame
        return _Sized(
            network, CpuPreprocessor(spec.input), self.postprocessor(spec, network.shapes)
        )

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        self.put(frame)

    def collect(self) -> Answer:
        """See interfaces.Slot."""
        return self.get()

    def process(self, frame: Frame) -> Answer:
        """On a worker thread."""
        start_ns = perf_counter_ns()
        layout = frame.pixels.shape, frame.format
        if layout != self._layout:
            self._now, self._layout = self.by_size.for_frame(frame.wh_px), layout
        network, preprocess, postprocess = self._now
        placement = preprocess(frame, network.tensor)
        ready_ns = perf_counter_ns()
        outputs = network.run()
        done_ns = perf_counter_ns()
        detections = postprocess.on_ready_thread(outputs, placement)
        return detections, {
            "preprocess": ready_ns - start_ns,
            "network": done_ns - ready_ns,
            "postprocess": perf_counter_ns() - done_ns,
        }


WORKERS = 2


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


class CpuBackend:
    """``workers`` frames at a time on one network; a context manager.

    ``spare_slots`` more frames may wait their turn: 0 keeps the age low, 1 the workers busy.
    ``batch``: so many frames go through the network at once.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Path,
        *,
        wake: Callable[[], None],
        score: float,
        iou: float,
        workers: int = WORKERS,
        threads: int | None = None,
        spare_slots: int = 0,
        open_network: OpenNetwork = OrtNetwork,
        engine: str = "ONNX Runtime",
        kind: EngineKind = "cpu",
        batch: int = 1,
    ) -> None:
        self._open_network, self._engine, self.kind = open_network, engine, kind
        self._spec, self._weights, self._wake = spec, weights, wake
        self._score, self._iou = score, iou
        self._workers, self._slot_count = workers, workers + spare_slots
        self._batch = batch
        self._threads = threads or max(1, cores() // workers)
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._running: list[threading.Thread] = []
        self._slots: list[CpuSlot] | list[BatchCpuSlot] = []

    def __enter__(self) -> CpuBackend:
        network = self._open_network(self._spec, self._weights, self._workers, self._threads)
        common: dict[str, Any] = {
            **{"queue": self._queue, "wake": self._wake},
            **{"score": self._score, "iou": self._iou},
        }
        if self._batch == 1:
            self._slots = [CpuSlot(self._spec, network, **common) for _ in range(self._slot_count)]
        else:
            self._slots = [
                BatchCpuSlot(self._spec, network, capacity=self._batch, **common)
                for _ in range(self._slot_count)
            ]
        self._running = [
            threading.Thread(target=self._work, name=f"worker-{i}", daemon=True)
            for i in range(self._workers)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in self._running:
            self._queue.put(None)
        for thread in self._running:
            thread.join()
        self._running, self._slots = [], []

    def _work(self) -> None:
        """A worker: one slot after the other, until told to end."""
        with overflow_ignored():
            while (slot := self._queue.get()) is not None:
                slot.work()

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        for slot in self._slots:
            slot.tune(score=score, iou=iou)

    @property
    def slots(self) -> Sequence[CpuSlot] | Sequence[BatchCpuSlot]:
        """See interfaces.Backend."""
        return self._slots

    @property
    def remarks(self) -> Sequence[str]:
        """See interfaces.Backend."""
        return cut_remark(self._spec, (slot.sizes for slot in self._slots))

    @property
    def description(self) -> str:
        """See interfaces.Backend."""
        workers = f"{self._workers} workers × {self._threads} thread{'s' * (self._threads > 1)}"
        batch = f" × {self._batch} frames" if self._batch > 1 else ""
        return f"cpu ({self._engine}), {workers}{batch}, {self._spec.name}"
