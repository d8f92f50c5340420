"""The CPU engine: ONNX Runtime behind slots that share a few worker threads.

A worker does one frame's preprocessing, inference and postprocessing one after the other, so one
frame's cv2 and Python work overlaps another's inference and nothing waits at a thread pool's
barrier. Where throughput counts there is one slot more than workers: results leave in order, and a
worker that is done before its predecessor finds the next frame already waiting (on 2 cores that
gives 13 % more frames per second). Inputs and outputs are bound once to memory of ours.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter_ns
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.backends.ort import one_line, open_session
from app.backends.ort_io import NetworkIO, network_io
from app.backends.postprocess import Postprocessor
from app.backends.preprocess import CpuPreprocessor
from app.detections import Detections
from app.errors import ModelError
from app.frame import Frame
from app.model_spec import ModelSpec

log = logging.getLogger(__name__)

WORKERS = 2


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


class CpuBackend:
    """``workers`` frames at a time on one ONNX Runtime session; a context manager.

    ``spare_slots`` more frames may wait their turn: 0 keeps the age low, 1 the workers busy.
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
    ) -> None:
        self._spec, self._weights, self._wake = spec, weights, wake
        self._score, self._iou = score, iou
        self._workers, self._slot_count = workers, workers + spare_slots
        self._threads = threads or max(1, cores() // workers)
        self._queue: SimpleQueue[CpuSlot | None] = SimpleQueue()
        self._running: list[threading.Thread] = []
        self._slots: list[CpuSlot] = []

    def __enter__(self) -> CpuBackend:
        session = open_session(self._weights, threads=self._threads)
        self._slots = [
            CpuSlot(
                self._spec,
                session,
                queue=self._queue,
                wake=self._wake,
                score=self._score,
                iou=self._iou,
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
        while (slot := self._queue.get()) is not None:
            slot.work()

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        for slot in self._slots:
            slot.tune(score=score, iou=iou)

    @property
    def slots(self) -> Sequence[CpuSlot]:
        """See interfaces.Backend."""
        return self._slots

    @property
    def remarks(self) -> Sequence[str]:
        """See interfaces.Backend."""
        return ()

    @property
    def description(self) -> str:
        """See interfaces.Backend."""
        workers = f"{self._workers} workers × {self._threads} thread"
        return f"cpu (ONNX Runtime), {workers}{'s' * (self._threads > 1)}, {self._spec.name}"


class CpuSlot:
    """One frame in flight and its buffers, bound once."""

    def __init__(
        self,
        spec: ModelSpec,
        session: Any,
        *,
        queue: SimpleQueue[CpuSlot | None],
        wake: Callable[[], None],
        score: float,
        iou: float,
    ) -> None:
        self._session, self._queue, self._wake = session, queue, wake
        self._name = spec.name
        self._preprocess = CpuPreprocessor(spec.input)
        io = network_io(session, spec)
        self._tensor = np.zeros(io.shape, np.float32)
        self._binding, self._outputs = _bind(session, self._tensor, io)
        shapes = [array.shape for array in self._run_network()]
        self._postprocess = Postprocessor(spec, shapes, score=score, iou=iou)
        self._frame: Frame | None = None
        self._answer: tuple[Detections, Mapping[str, int]] | BaseException | None = None
        self._busy = threading.Lock()  # held until the frame is done; an Event costs three of it

    def tune(self, *, score: float, iou: float) -> None:
        """See interfaces.Tunable."""
        self._postprocess.tune(score=score, iou=iou)

    def enqueue(self, frame: Frame) -> None:
        """See interfaces.Slot."""
        assert self._frame is None, "the slot is busy"
        self._frame = frame
        self._busy.acquire()
        self._queue.put(self)

    def ready(self) -> bool:
        """See interfaces.Slot."""
        return not self._busy.locked()

    def collect(self) -> tuple[Detections, Mapping[str, int]]:
        """See interfaces.Slot."""
        assert self._frame is not None, "nothing was enqueued"
        with self._busy:
            pass
        answer, self._answer, self._frame = self._answer, None, None
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        return answer

    def work(self) -> None:
        """The whole frame, on a worker thread; an error is kept for ``collect``."""
        assert self._frame is not None
        try:
            self._answer = self._process(self._frame)
        except BaseException as error:
            self._answer = error
        self._busy.release()
        self._wake()

    def _process(self, frame: Frame) -> tuple[Detections, Mapping[str, int]]:
        start_ns = perf_counter_ns()
        placement = self._preprocess(frame, self._tensor)
        ready_ns = perf_counter_ns()
        outputs = self._run_network()
        done_ns = perf_counter_ns()
        detections = self._postprocess(outputs, placement)
        return detections, {
            "preprocess": ready_ns - start_ns,
            "network": done_ns - ready_ns,
            "postprocess": perf_counter_ns() - done_ns,
        }

    def _run_network(self) -> Sequence[NDArray[Any]]:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's own errors have no common root
            raise ModelError(f"model {self._name}: inference failed: {one_line(error)}") from error
        if self._outputs is not None:
            return self._outputs
        arrays: list[NDArray[Any]] = self._binding.copy_outputs_to_cpu()
        return arrays


def _bind(
    session: Any, tensor: NDArray[np.float32], io: NetworkIO
) -> tuple[Any, list[NDArray[Any]] | None]:
    """Bind the session to ``tensor`` and, where all shapes are fixed, to outputs of ours."""
    binding = session.io_binding()
    binding.bind_input(io.input, "cpu", 0, np.float32, tensor.shape, tensor.ctypes.data)
    if io.varies:
        for name, _ in io.outputs:  # the number of boxes may differ from frame to frame
            binding.bind_output(name, "cpu")
        return binding, None
    arrays: list[NDArray[Any]] = [np.empty(shape, np.float32) for _, shape in io.outputs]
    for (name, _), array in zip(io.outputs, arrays, strict=True):
        binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return binding, arrays
