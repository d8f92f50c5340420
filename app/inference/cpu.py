"""The CPU engines: ONNX Runtime or OpenVINO behind slots that share a few worker threads.

A worker does one frame's preprocessing, inference and postprocessing one after the other, so one
frame's cv2 and Python work overlaps another's inference and nothing waits at a thread pool's
barrier. Where throughput counts there is one slot more than workers: results leave in order, and a
worker that is done before its predecessor finds the next frame already waiting (on 2 cores that
gives 13 % more frames per second). Inputs and outputs are bound once for each input shape.

A slot that takes several frames reads the weights once for all of them, which gives some percent
on a CPU. Each frame is pre- and postprocessed as if it were alone, and frames that need another
input shape have a run of their own: their boxes are the same.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any

from ..core.frame import Frame
from ..core.interfaces import Answer, EngineKind
from ..models.manifest import ModelSpec
from .onnxruntime import Array, BoundNetwork, CpuNetwork, OpenNetwork, OrtNetwork
from .postprocess import MAX_DETECTIONS, Limits, NanGuard, Postprocessor, overflow_ignored
from .preprocess import CpuPreprocessor
from .shape_cache import ShapeCache, Size, cut_remark, merged


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """What a slot has for one input shape; ``places``: a preprocessor and a tensor a frame."""

    network: BoundNetwork
    places: Sequence[tuple[CpuPreprocessor, Array]]
    postprocess: Postprocessor

    def run(self, frames: Sequence[Frame]) -> list[Answer]:
        """All frames must need this shape; stage times are shared out evenly."""
        count, start_ns = len(frames), perf_counter_ns()
        placements = [
            preprocess(frame, tensor)
            for frame, (preprocess, tensor) in zip(frames, self.places, strict=False)
        ]
        ready_ns = perf_counter_ns()
        outputs = self.network.run(count)
        done_ns = perf_counter_ns()
        found = list(map(self.postprocess.on_ready_thread, outputs, placements))
        stages = {
            "preprocess": (ready_ns - start_ns) // count,
            "network": (done_ns - ready_ns) // count,
            "postprocess": (perf_counter_ns() - done_ns) // count,
        }
        return [(detections, stages) for detections in found]


class CpuSlot:
    """Up to ``capacity`` frames in flight and their buffers.

    ``batch`` of them go through the network at once, the others after them.
    The pipeline thread enqueues and collects; ``work`` runs on a worker thread.
    """

    def __init__(
        self,
        spec: ModelSpec,
        network: CpuNetwork,
        *,
        queue: SimpleQueue[Any],
        wake: Callable[[], None],
        limits: Limits,
        capacity: int = 1,
        batch: int | None = None,
    ) -> None:
        self.capacity, self._batch = capacity, batch or capacity
        self._network, self._queue, self._wake = network, queue, wake
        self._limits, self._nan_guard = limits, NanGuard(spec.name)
        self._frames: Sequence[Frame] = ()
        self._answers: Sequence[Answer] | BaseException = ()
        self._busy = threading.Lock()  # held while at work; an Event costs three times as much
        if spec.input.fit:  # buffers come with the first frame; a misfit is refused now
            Postprocessor(spec, network.shapes, self._limits, self._nan_guard)
            if self._batch > 1:
                network.bind(spec, self._batch)
        self.shapes = ShapeCache(spec, self._bind)

    def _bind(self, spec: ModelSpec) -> _Bound:
        """Buffers for the input of ``spec``; raises ModelError."""
        network = self._network.bind(spec, self._batch)
        if not spec.input.fit:
            network.run(self._batch)  # what a first run allocates, before there is a frame
        # a preprocessor for each place: it keeps what suits its frame's size, and the padding
        places = [
            (CpuPreprocessor(spec.input), network.tensor[i : i + 1]) for i in range(self._batch)
        ]
        return _Bound(
            network, places, Postprocessor(spec, network.shapes, self._limits, self._nan_guard)
        )

    def enqueue(self, frames: Sequence[Frame]) -> None:
        assert not self._frames, "the slot is busy"
        assert 0 < len(frames) <= self.capacity, "more frames than the slot takes"
        self._frames = frames
        self._busy.acquire()
        self._queue.put(self)

    def ready(self) -> bool:
        return not self._busy.locked()

    def collect(self) -> Sequence[Answer]:
        assert self._frames, "nothing was enqueued"
        with self._busy:
            pass
        answers, self._answers, self._frames = self._answers, (), ()
        if isinstance(answers, BaseException):
            raise answers
        return answers

    def work(self) -> None:
        """On a worker thread: all that the frames need; an error is kept for ``collect``."""
        frames = self._frames
        try:
            if len(frames) == 1:
                bound = self.shapes.for_frame(frames[0].wh_px, frames[0].pixel_aspect)
                self._answers = bound.run(frames)
            else:
                groups = self.shapes.group(frames).items()
                self._answers = merged(
                    [(each, self._run(bound, [frames[i] for i in each])) for bound, each in groups]
                )
        except BaseException as error:
            self._answers = error
        self._busy.release()
        self._wake()

    def _run(self, bound: _Bound, frames: Sequence[Frame]) -> list[Answer]:
        """Frames that need the same shape, ``batch`` at a time."""
        lots = (frames[i : i + self._batch] for i in range(0, len(frames), self._batch))
        return [answer for lot in lots for answer in bound.run(lot)]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Input sizes bound at present; any thread."""
        return self.shapes.sizes


WORKERS = 2


def cores() -> int:
    return len(os.sched_getaffinity(0))


class CpuBackend:
    """``workers`` frames at a time on one network; a context manager.

    ``spare_slots`` more frames may wait their turn: 0 keeps the age low, 1 the workers busy.
    ``batch``: so many frames go through the network at once; ``capacity``: a slot takes so many,
    where that is more.
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
        workers: int = WORKERS,
        threads: int | None = None,
        spare_slots: int = 0,
        open_network: OpenNetwork = OrtNetwork,
        engine: str = "ONNX Runtime",
        kind: EngineKind = "cpu",
        batch: int = 1,
        capacity: int = 1,
    ) -> None:
        self._capacity = max(batch, capacity)
        self._open_network, self._engine, self.kind = open_network, engine, kind
        self._spec, self._weights, self._wake = spec, weights, wake
        self._limits = Limits(score, iou, most)
        self._workers, self._slot_count = workers, workers + spare_slots
        self._batch = batch
        self._threads = threads or max(1, cores() // workers)
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._running: list[threading.Thread] = []
        self._slots: list[CpuSlot] = []

    def __enter__(self) -> CpuBackend:
        network = self._open_network(self._spec, self._weights, self._workers, self._threads)
        self._slots = [
            CpuSlot(
                self._spec,
                network,
                queue=self._queue,
                wake=self._wake,
                limits=self._limits,
                capacity=self._capacity,
                batch=self._batch,
            )
            for _ in range(self._slot_count)
        ]
        self._running = [
            threading.Thread(target=self._work, name=f"worker-{i}", daemon=True)
            for i in range(self._workers)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for _ in self._running:
            self._queue.put(None)
        for thread in self._running:
            thread.join()
        self._running, self._slots = [], []

    def _work(self) -> None:
        with overflow_ignored():
            while (slot := self._queue.get()) is not None:
                slot.work()

    def tune(self, *, score: float, iou: float) -> None:
        self._limits.tune(score=score, iou=iou)

    @property
    def slots(self) -> Sequence[CpuSlot]:
        return self._slots

    @property
    def remarks(self) -> Sequence[str]:
        return cut_remark(self._spec, (slot.sizes for slot in self._slots))

    @property
    def description(self) -> str:
        workers = f"{self._workers} workers × {self._threads} thread{'s' * (self._threads > 1)}"
        batch = f" × {self._batch} frames" if self._batch > 1 else ""
        where = self.kind.partition(":")[2].lower() or "cpu"
        return f"{where} ({self._engine}), {workers}{batch}, {self._spec.name}"
