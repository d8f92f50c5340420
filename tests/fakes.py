"""Hand-written stand-ins for sources, backends and sinks; each can be told to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic_ns

import numpy as np

from app.core.detections import Detections, Result
from app.core.errors import SourceEnded
from app.core.frame import Frame, SourceInfo
from app.core.interfaces import Answer, EngineKind


class FakeSource:
    """``count`` tiny frames; ``fail_at`` raises ``error`` there; ``pace`` is called before each."""

    def __init__(
        self,
        count: int,
        *,
        live: bool = False,
        fail_at: int | None = None,
        error: BaseException | None = None,
        pace: Callable[[int], None] = lambda i: None,
        open_error: BaseException | None = None,
    ) -> None:
        self._count, self._live, self._pace = count, live, pace
        self._fail_at, self._error, self._open_error = fail_at, error, open_error
        self._next = 0
        self.threads: set[str] = set()
        self.closed = False

    def open(self) -> SourceInfo:
        self.threads.add(threading.current_thread().name)
        if self._open_error:
            raise self._open_error
        return SourceInfo("fake:", self._live, (4, 3), 30.0, self._count)

    def read(self, timeout_s: float) -> Frame | None:
        self.threads.add(threading.current_thread().name)
        self._pace(self._next)
        if self._next == self._fail_at and self._error:
            raise self._error
        if self._next == self._count:
            raise SourceEnded
        pixels = np.full((3, 4, 3), self._next % 256, np.uint8)
        self._next += 1
        return Frame(pixels, self._next - 1, monotonic_ns(), self._next * 1_000_000)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed = True


class FakeSlot:
    """Answers each frame with one detection whose class id is the frame's index, when let."""

    def __init__(self, backend: FakeBackend, capacity: int) -> None:
        self._backend, self.capacity = backend, capacity
        self._frames: Sequence[Frame] = ()
        self._done = threading.Event()

    def enqueue(self, frames: Sequence[Frame]) -> None:
        assert not self._frames and 0 < len(frames) <= self.capacity
        self._frames = frames
        self._done.clear()
        self._backend.batches.append([(frame.lane, frame.index) for frame in frames])
        self._backend.note(len(frames))
        self._backend.run(frames[0], self._finish)

    def _finish(self) -> None:
        self._done.set()
        self._backend.wake()

    def ready(self) -> bool:
        return self._done.is_set()

    def collect(self) -> Sequence[Answer]:
        assert self._frames and self._done.wait(10)
        if any(frame.index == self._backend.fail_at for frame in self._frames):
            raise self._backend.error
        frames, self._frames = self._frames, ()
        self._backend.note(-len(frames))
        return [(one_box(frame.index), {"network": 1000}) for frame in frames]


def one_box(class_id: int) -> Detections:
    """One detection of this class."""
    box = np.array([[0, 0, 1, 1]], np.float32)
    return Detections(box, np.array([0.5], np.float32), np.array([class_id], np.int32))


class FakeBackend:
    """``run(frame, finish)`` decides when a slot becomes ready; at once unless told otherwise."""

    def __init__(
        self,
        wake: Callable[[], None],
        *,
        slots: int = 2,
        capacity: int = 1,
        run: Callable[[Frame, Callable[[], None]], None] = lambda frame, finish: finish(),
        fail_at: int | None = None,
        error: BaseException | None = None,
        enter_error: BaseException | None = None,
    ) -> None:
        self.wake, self.run = wake, run
        self.fail_at, self.error = fail_at, error or RuntimeError("network")
        self._enter_error = enter_error
        self.slots: Sequence[FakeSlot] = [FakeSlot(self, capacity) for _ in range(slots)]
        self.kind: EngineKind = "cpu"
        self.description, self.remarks = "fake", ("nothing much",)
        self.in_flight = self.most_in_flight = 0
        self.batches: list[
            list[tuple[int, int]]
        ] = []  # lane and index of frames that went together
        self.threads: list[str] = []
        self.left = False

    def __enter__(self) -> FakeBackend:
        self.threads.append(threading.current_thread().name)
        if self._enter_error:
            raise self._enter_error
        return self

    def __exit__(self, *exc: object) -> None:
        self.threads.append(threading.current_thread().name)
        self.left = True

    def note(self, change: int) -> None:
        self.in_flight += change
        self.most_in_flight = max(self.most_in_flight, self.in_flight)


class FakeSink:
    """Keeps what it got; ``fail_at`` raises ``error`` at that frame."""

    def __init__(self, *, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.frames: list[int] = []
        self.classes: list[int] = []
        self.closed = 0
        self.opened: SourceInfo | None = None
        self._fail_at, self._error = fail_at, error

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.opened = source

    def emit(self, result: Result) -> None:
        if result.frame.index == self._fail_at and self._error:
            raise self._error
        self.frames.append(result.frame.index)
        self.classes.append(int(result.detections.class_ids[0]))

    def close(self) -> None:
        self.closed += 1
