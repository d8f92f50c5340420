"""When may a lost source be opened again?

Back-off with jitter between attempts, and the openings left behind: a reader that hangs in its
driver cannot be ended, only counted, and a camera has one owner at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from app.sources.reader import Attempt

FIRST_WAIT_S = 0.2  # before the first attempt to open it again; doubles up to the longest wait
JITTER = 0.5  # a wait is shortened by up to this part: many clients must not come back as one
STEADY_NS = 5_000_000_000  # live for so long: the next loss is a new one, tried again at once
MOST_LEFT_BEHIND = 3  # readers that hang in a driver; more are not started until one returns
GOODBYE_S = 1.2  # what a driver may take to let go of its camera
_LOOK_AGAIN_NS = 50_000_000


class Retry:
    """The clock between two openings. Times in ns of the clock that it is given."""

    def __init__(self, longest_s: float, now_ns: Callable[[], int], rng: random.Random) -> None:
        self.due_ns = 0  # not before then
        self._longest_s, self._now_ns, self._rng = longest_s, now_ns, rng
        self._failures = 0  # openings that failed, or were live only for a moment, in a row
        self._left_behind: list[Attempt] = []
        self._left_ns = 0

    def leave(self, attempt: Attempt) -> None:
        """Ask an opening to close; its driver may take its time, or never return."""
        attempt.leave()
        self._left_behind.append(attempt)
        self._left_ns = self._now_ns()

    def forgive(self, live_since_ns: int) -> None:
        """A source that was live for long enough begins with the shortest wait again."""
        if self._now_ns() - live_since_ns > STEADY_NS:
            self._failures = 0

    def back_off(self) -> None:
        """Wait, longer after each failure in a row, for the longest wait at most."""
        wait_s = min(FIRST_WAIT_S * 2.0**self._failures, self._longest_s)
        self._failures = min(self._failures + 1, 30)
        self._wait(wait_s * (1 - JITTER * self._rng.random()))

    def start_over(self) -> None:
        """Wait for the shortest time: nothing failed, but the next opening may be as short."""
        self._wait(FIRST_WAIT_S)

    def allows(self) -> bool:
        """May it be opened now? Where not, ``due_ns`` says when to ask again."""
        now_ns = self._now_ns()
        if now_ns < self.due_ns:
            return False
        self._left_behind = [each for each in self._left_behind if not each.gone()]
        if self._left_behind and now_ns - self._left_ns < GOODBYE_S * 1e9:
            self.due_ns = now_ns + _LOOK_AGAIN_NS
            return False
        if len(self._left_behind) >= MOST_LEFT_BEHIND:
            self._wait(self._longest_s)
            return False
        return True

    def _wait(self, wait_s: float) -> None:
        self.due_ns = self._now_ns() + round(wait_s * 1e9)
