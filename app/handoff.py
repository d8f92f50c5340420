"""How does a frame get from the capture thread to the pipeline thread?

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

from app.frame import Frame

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


class Doorbell:
    """Where the one consumer waits, for one producer or for many."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._rung = threading.Condition(self.lock)
        self._awaited: Callable[[], bool] | None = None  # for what it waits

    def wait(self, until: Callable[[], bool], timeout_s: float) -> None:
        """Until ``until()``, which is asked with the lock held, or until the time is over."""
        with self.lock:
            self._awaited = until
            self._rung.wait_for(until, timeout_s)
            self._awaited = None

    def ring(self) -> None:
        """Wake the consumer if its condition has become true; the lock is held."""
        if self._awaited is not None and self._awaited():
            self._rung.notify()


class Handoff:
    """One producer, one consumer. ``on_drop`` is called with the reason, outside the lock.

    Several with one ``bell`` have one consumer, who waits for all of them at once.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        on_drop: Callable[[str], None],
        capacity: int = 2,
        note: Note = note_nothing,
        bell: Doorbell | None = None,
    ) -> None:
        self._note = note
        self._policy = policy
        self._on_drop = on_drop
        self._capacity = 1 if policy is Policy.LATEST else capacity
        self._frames: deque[Frame] = deque()
        self._ended = False
        self._abandoned: str | None = None
        self._bell = bell or Doorbell()
        self._lock = self._bell.lock
        self._room = threading.Condition(self._lock)  # the producer waits here

    def put(self, frame: Frame, timeout_s: float) -> bool:
        """Hand a frame over; False if LOSSLESS found no room in time: try again."""
        dropped = None
        with self._lock:
            if self._policy is Policy.LATEST:
                for old in self._frames:
                    dropped = "replaced"
                    self._note(dropped, old.index, 0)
                self._frames.clear()
            elif not self._has_room() and not self._room.wait_for(self._has_room, timeout_s):
                return False
            if self._abandoned:
                dropped = self._abandoned
            else:
                self._frames.append(frame)
                self._note("put", frame.index, frame.captured_ns)
                self._bell.ring()
        if dropped:
            self._on_drop(dropped)
        return True

    def end(self) -> None:
        """The producer has no more frames."""
        with self._lock:
            self._ended = True
            self._bell.ring()

    def take(self) -> Frame | None:
        """The next frame, or None; never waits."""
        with self._lock:
            if not self._frames:
                return None
            self._room.notify()
            frame = self._frames.popleft()
            self._note("take", frame.index, 0)
            return frame

    def wait(self, *, for_frame: bool, until: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``until()``, or, with ``for_frame``, until there is a frame or the end."""
        self._bell.wait(lambda: until() or (for_frame and self.stirs), timeout_s)

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
        """No more frames come, though some may wait."""
        return self._ended

    def wake(self) -> None:
        """A slot has become ready, or a stop was asked for; from any thread."""
        with self._lock:
            self._bell.ring()

    def drained(self) -> bool:
        """True when the producer has ended and every frame has been taken."""
        with self._lock:
            return self._ended and not self._frames

    def abandon(self, reason: str) -> None:
        """The consumer is gone: what waits, and what still comes, is dropped for ``reason``."""
        with self._lock:
            self._abandoned = reason
            count = len(self._frames)
            self._frames.clear()
            self._room.notify()
        for _ in range(count):
            self._on_drop(reason)

    def _has_room(self) -> bool:
        return len(self._frames) < self._capacity
