"""The CPU engines: ONNX Runtime or OpenVINO behind slots that share a few worker threads.

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
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from app.backends.by_size import cut_remark
from app.backends.cpu_batch import BatchCpuSlot
from app.backends.cpu_network import OpenNetwork, OrtNetwork
from app.backends.cpu_slot import CpuSlot
from app.backends.postprocess import overflow_ignored
from app.model_spec import ModelSpec

log = logging.getLogger(__name__)

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
        batch: int = 1,
    ) -> None:
        self._open_network, self._engine = open_network, engine
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
