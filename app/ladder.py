"""How does a run step down when its frames grow too old, and how does it climb back?

The ladder is declared, one step below the other: ``["every 2nd frame", "every 4th frame"]``. A step
down needs a share of late frames in a short while, or a device that throttles because it is hot;
a step up needs a long calm. A climb that has to be taken back doubles the next calm.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns

from app.errors import ConfigError

log = logging.getLogger(__name__)

WINDOW_NS = 2_000_000_000  # in which late frames are counted
FEWEST = 4  # frames of a window that are enough to judge
LATE_SHARE = 0.25  # of them: more is too many
CALM_NS = 10_000_000_000  # without a late frame, before a step up
LONGEST_CALM_NS = 600_000_000_000
CALM_AGE = 0.7  # of the budget: a frame that is older is no sign of calm


@dataclass(frozen=True, slots=True)
class Step:
    """One rung: inference on every n-th frame. Further ways to spare belong here."""

    every: int

    @property
    def name(self) -> str:
        """As in the configuration."""
        return "every frame" if self.every == 1 else f"every {_ordinal(self.every)} frame"


FULL = Step(every=1)


def parse_ladder(texts: Sequence[str]) -> tuple[Step, ...]:
    """The declared steps; raises ConfigError unless each spares more than the one above."""
    steps: list[Step] = []
    for text in texts:
        match = re.fullmatch(r"every ([0-9]{1,3})(?:st|nd|rd|th) frame", text.strip())
        if match is None:
            raise ConfigError(
                f'ladder: {text!r} is no step; a step is written "every 2nd frame" (steps to '
                "another input size or model are not in this version)"
            )
        step = Step(every=int(match[1]))
        if step.every <= (steps[-1] if steps else FULL).every:
            raise ConfigError(f"ladder: {text!r} spares no more than the step before it")
        steps.append(step)
    return tuple(steps)


class Ladder:
    """Used on the pipeline thread; ``hot`` may be called from there and must be quick."""

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        budget_ms: float,
        on_step: Callable[[str], None],
        hot: Callable[[], str | None] = lambda: None,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._steps = (FULL, *steps)
        self._budget_ns = round(budget_ms * 1e6)
        self._on_step, self._hot, self._now_ns = on_step, hot, now_ns
        self._at = 0
        self._offered: Counter[int] = Counter()  # frames of each source since the step began
        self._seen = self._late = 0
        self._window_ns = self._calm_since_ns = now_ns()
        self._calm_ns = CALM_NS
        self._climbed_ns: int | None = None

    @property
    def step(self) -> Step:
        """Where it is now."""
        return self._steps[self._at]

    def wants(self, lane: int = 0) -> bool:
        """Whether the next frame of a source is to be processed. Call once for every frame."""
        self._offered[lane] += 1
        return (self._offered[lane] - 1) % self.step.every == 0

    def took(self, age_ns: int) -> None:
        """A frame was processed, or dropped as stale, at this age."""
        now_ns = self._now_ns()
        self._seen += 1
        self._late += age_ns > self._budget_ns
        if age_ns > CALM_AGE * self._budget_ns:
            self._calm_since_ns = now_ns
        if now_ns - self._window_ns < WINDOW_NS or self._seen < FEWEST:
            return
        late, seen, self._late, self._seen = self._late, self._seen, 0, 0
        self._window_ns = now_ns
        throttled = self._hot()
        if late > LATE_SHARE * seen:
            self._down(now_ns, f"{late} of {seen} frames were too old")
        elif throttled:
            self._calm_since_ns = now_ns
            self._down(now_ns, throttled)
        elif self._at and now_ns - self._calm_since_ns >= self._calm_ns:
            self._up(now_ns)

    def _down(self, now_ns: int, why: str) -> None:
        if self._climbed_ns is not None:
            soon = now_ns - self._climbed_ns < self._calm_ns
            self._calm_ns = min(2 * self._calm_ns, LONGEST_CALM_NS) if soon else CALM_NS
            self._climbed_ns = None
        self._calm_since_ns = now_ns
        if self._at + 1 < len(self._steps):
            self._move(+1, "down", why)

    def _up(self, now_ns: int) -> None:
        self._climbed_ns = self._calm_since_ns = now_ns
        self._move(-1, "up", f"{self._calm_ns / 1e9:.0f} s without a late frame")

    def _move(self, by: int, way: str, why: str) -> None:
        self._at += by
        self._offered.clear()
        log.warning("ladder: a step %s to %s, as %s", way, self.step.name, why)
        self._on_step(f"ladder steps {way}")


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 <= number % 100 <= 20 else ending}"
