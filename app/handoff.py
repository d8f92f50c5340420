"""How does a frame get from the capture thread to the pipeline thread?

One hand-off, two policies. LATEST (live): there is room for one frame, a newer one replaces it and
the old one is counted as a drop; a slow consumer never makes a queue. LOSSLESS (replay): the
producer waits for room. The same condition tells the consumer that a slot has become ready, so the
pipeline thread has exactly one place to wait.
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable

from app.frame import Frame


class Policy(enum.Enum):
    """What to do with a frame for which the consumer has no time yet."""

    LATEST = "latest"
    LOSSLESS = "lossless"


class Handoff:
    """One producer, one consumer. ``on_drop`` is called with the reason, outside the lock."""

    def __init__(
        self, policy: Policy, *, on_drop: Callable[[str], None], capacity: int = 2
    ) -> None:
        self._policy = policy
        self._on_drop = on_drop
        self._capacity = 1 if policy is Policy.LATEST else capacity
        self._frames: deque[Frame] = deque()
        self._ended = False
        self._abandoned: str | None = None
        self._condition = threading.Condition()

    def put(self, frame: Frame, timeout_s: float) -> bool:
        """Hand a frame over; False if LOSSLESS found no room in time (nothing is lost: try again)."""
        dropped = None
        with self._condition:
            if self._policy is Policy.LATEST:
                dropped = "replaced" if self._frames else None
                self._frames.clear()
            elif not self._condition.wait_for(self._has_room, timeout_s):
                return False
            if self._abandoned:
                dropped = self._abandoned
            else:
                self._frames.append(frame)
                self._condition.notify_all()
        if dropped:
            self._on_drop(dropped)
        return True

    def end(self) -> None:
        """The producer has no more frames."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def take(self) -> Frame | None:
        """The next frame, or None; never waits."""
        with self._condition:
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._condition.notify_all()
            return frame

    def wait(self, *, for_frame: bool, until: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``until()``, or, with ``for_frame``, until there is a frame or the end."""
        with self._condition:
            self._condition.wait_for(
                lambda: until() or (for_frame and (bool(self._frames) or self._ended)), timeout_s
            )

    def wake(self) -> None:
        """Make a waiting consumer look at its condition again; from any thread."""
        with self._condition:
            self._condition.notify_all()

    def drained(self) -> bool:
        """True when the producer has ended and every frame has been taken."""
        with self._condition:
            return self._ended and not self._frames

    def abandon(self, reason: str) -> None:
        """The consumer is gone: what waits, and what still comes, is dropped for ``reason``."""
        with self._condition:
            self._abandoned = reason
            count = len(self._frames)
            self._frames.clear()
            self._condition.notify_all()
        for _ in range(count):
            self._on_drop(reason)

    def _has_room(self) -> bool:
        return len(self._frames) < self._capacity
