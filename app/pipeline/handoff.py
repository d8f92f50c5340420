"""Hands frames from the capture thread to the pipeline thread: newest wins, or all in order.

One hand-off, two policies. LATEST (live): there is room for one frame, a newer one replaces it and
the old one is counted as a drop; a slow consumer never makes a queue. LOSSLESS (replay): the
producer waits for room. The consumer waits in one place for frames and for slots alike, and is
woken only when what it waits for is true: each needless wake-up is a switch of threads.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable

from ..core.frame import Frame

# What happened to a frame: (kind, its index, a time where the decision depends on one). Called
# under the lock, so that the order of the notes is that of the decisions; it must not block.
Note = Callable[[str, int, int], None]


def note_nothing(kind: str, index: int, time_ns: int) -> None:
    """Nobody listens."""


def is_stale(captured_ns: int, now_ns: int, max_age_ns: int | None) -> bool:
    """Whether a frame has waited too long to be worth an inference."""
    return max_age_ns is not None and now_ns - captured_ns > max_age_ns


class Policy(enum.Enum):
    """What to do with a frame for which the consumer has no time yet."""

    LATEST = "latest"
    LOSSLESS = "lossless"


class SingleWaiterCondition:
    """Where one thread waits until a condition, looked at under ``lock``, is true.

    A lock that is held is all there is to wait for: a threading.Condition makes a new one for each
    wait and does the rest in Python, several times a frame.
    """

    def __init__(self, lock: threading.Lock | None = None) -> None:
        self.lock = lock or threading.Lock()
        self._closed = threading.Lock()
        self._closed.acquire()
        self._awaited: Callable[[], bool] | None = None

    def wait(self, awaited: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it came true in time."""
        with self.lock:
            if awaited():
                return True
            self._awaited = awaited
        if self._closed.acquire(timeout=timeout_s):
            return True
        with self.lock:
            self._awaited = None
            return self._closed.acquire(blocking=False)  # it may have come true at the last moment

    def notify(self) -> None:
        """Let the waiting thread go if its condition has come true; the lock is held."""
        if self._awaited is not None and self._awaited():
            self._awaited = None
            self._closed.release()

    def wake(self) -> None:
        """``notify``, with the lock taken here; from any thread."""
        with self.lock:
            self.notify()


class Handoff:
    """One producer, one consumer. ``on_drop`` is called with the reason, outside the lock.

    Several with one ``gate`` have one consumer, who waits for all of them at once.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        on_drop: Callable[[str], None],
        note: Note = note_nothing,
        gate: SingleWaiterCondition | None = None,
    ) -> None:
        self._note = note
        self._policy = policy
        self._on_drop = on_drop
        self._capacity = 1 if policy is Policy.LATEST else 2
        self._frames: deque[Frame] = deque()
        self._ended = False
        self._abandoned: str | None = None
        self._work = gate or SingleWaiterCondition()  # the consumer waits here
        self._lock = self._work.lock
        self._room = SingleWaiterCondition(self._lock)  # the producer waits here

    def put(self, frame: Frame, timeout_s: float) -> bool:
        """Hand a frame over; False if LOSSLESS found no room in time: try again."""
        dropped, live = None, self._policy is Policy.LATEST
        if not live and not self._room.wait(self._has_room, timeout_s):
            return False
        with self._lock:
            if live:
                for old in self._frames:
                    dropped = "replaced"
                    self._note(dropped, old.index, 0)
                self._frames.clear()
            if self._abandoned:
                dropped = self._abandoned
            else:
                self._frames.append(frame)
                self._note("put", frame.index, frame.captured_ns)
                self._work.notify()
        if dropped:
            self._on_drop(dropped)
        return True

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._work.notify()

    def take(self) -> Frame | None:
        with self._lock:
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._room.notify()
            self._note("take", frame.index, 0)
            return frame

    @property
    def stirs(self) -> bool:
        """There is a frame, or the end; ask with the lock held."""
        return bool(self._frames) or self._ended

    @property
    def first(self) -> Frame | None:
        """The frame that is next, left where it is; ask with the lock held."""
        return self._frames[0] if self._frames else None

    @property
    def ended(self) -> bool:
        return self._ended

    def drained(self) -> bool:
        with self._lock:
            return self._ended and not self._frames

    def abandon(self, reason: str) -> None:
        """The consumer is gone: what waits, and what still comes, is dropped for ``reason``."""
        self._abandoned = reason
        self.clear(reason)

    def clear(self, reason: str) -> None:
        """Drop what waits for ``reason``."""
        with self._lock:
            count = len(self._frames)
            self._frames.clear()
            self._room.notify()
        for _ in range(count):
            self._on_drop(reason)

    def _has_room(self) -> bool:
        return len(self._frames) < self._capacity
