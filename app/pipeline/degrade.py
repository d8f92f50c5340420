"""Degradation when frames grow too old or the device too hot, and the way back.

The ladder is declared, one step below the other: ``["every 2nd frame", "input 256x256", "model
NAME"]``. A step keeps what the one above it spares, and adds to it. A step down needs a share of
late frames in a short while, or a device that throttles because it is hot; a step up needs a long
calm. A climb that has to be taken back doubles the next calm.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic_ns

from ..core.errors import ConfigError

log = logging.getLogger(__name__)


WINDOW_NS = 2_000_000_000  # in which late frames are counted
FEWEST = 4  # frames of a window that are enough to judge
LATE_SHARE = 0.25  # of them: more is too many
CALM_NS = 10_000_000_000  # without a late frame, before a step up
LONGEST_CALM_NS = 600_000_000_000
CALM_AGE = 0.7  # of the budget: a frame that is older is no sign of calm
_SYNTAX = '"every 2nd frame", "input 256x256" or "model NAME"'


@dataclass(frozen=True, slots=True)
class Network:
    """What computes; None: the run's own model, the model's own input size."""

    model: str | None = None
    size_wh: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        size = "" if self.size_wh is None else "input {}x{}".format(*self.size_wh)
        model = "" if self.model is None else f"model {self.model}"
        return ", ".join(part for part in (model, size) if part)


@dataclass(frozen=True, slots=True)
class Level:
    """One rung: inference on every n-th frame, by this network."""

    every: int = 1
    network: Network = Network()

    @property
    def name(self) -> str:
        pace = "every frame" if self.every == 1 else f"every {_ordinal(self.every)} frame"
        return f"{pace}, {self.network.name}" if self.network.name else pace


FULL = Level()


def parse_ladder(texts: Sequence[str]) -> tuple[Level, ...]:
    """The declared steps, each with what it keeps; raises ConfigError unless each spares more."""
    steps = [FULL]
    for text in texts:
        step = _parse_step(text.strip(), steps[-1])
        if step in steps:
            raise ConfigError(f"ladder: {text!r} spares no more than the step before it")
        steps.append(step)
    return tuple(steps[1:])


def _parse_step(text: str, above: Level) -> Level:
    if match := re.fullmatch(r"every ([0-9]{1,3})(?:st|nd|rd|th) frame", text):
        if int(match[1]) <= above.every:
            raise ConfigError(f"ladder: {text!r} spares no more than the step before it")
        return replace(above, every=int(match[1]))
    if match := re.fullmatch(r"input ([1-9][0-9]{1,3})(?:x([1-9][0-9]{1,3}))?", text):
        size_wh = int(match[1]), int(match[2] or match[1])
        before = above.network.size_wh
        if before is not None and size_wh[0] * size_wh[1] >= before[0] * before[1]:
            raise ConfigError(f"ladder: {text!r} spares no more than the step before it")
        return replace(above, network=replace(above.network, size_wh=size_wh))
    if match := re.fullmatch(r"model (\S.*)", text):
        return replace(above, network=Network(match[1]))
    raise ConfigError(f"ladder: {text!r} is no step; a step is written {_SYNTAX}")


class DegradationPolicy:
    """Used on the pipeline thread; ``hot`` may be called from there and must be quick.

    ``missing`` holds the networks that could not be built, known once the engine is: a step to one
    of them keeps the network above, and is passed over where nothing is left to spare.
    """

    def __init__(
        self,
        steps: Sequence[Level],
        *,
        budget_ms: float,
        on_step: Callable[[str], None],
        use: Callable[[Network], None] = lambda network: None,
        missing: Collection[Network] = (),
        hot: Callable[[], str | None] = lambda: None,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._steps = (FULL, *steps)
        self.set_budget(budget_ms)
        self._on_step, self._hot, self._now_ns = on_step, hot, now_ns
        self._use, self._missing = use, missing
        self._at = 0
        self._offered: Counter[int] = Counter()  # frames of each source since the step began
        self._seen = self._late = 0
        self._window_ns = self._calm_since_ns = now_ns()
        self._calm_ns = CALM_NS
        self._climbed_ns: int | None = None

    @property
    def step(self) -> Level:
        return self._there(self._at)

    def set_budget(self, budget_ms: float) -> None:
        """Another limit of age from now on; any thread."""
        self._budget_ns = round(budget_ms * 1e6)

    def wants(self, lane: int = 0) -> bool:
        """Whether the next frame of a source is to be processed. Call once for every frame."""
        self._offered[lane] += 1
        return (self._offered[lane] - 1) % self._steps[self._at].every == 0

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
        self._move(range(self._at + 1, len(self._steps)), "down", why)

    def _up(self, now_ns: int) -> None:
        self._climbed_ns = self._calm_since_ns = now_ns
        why = f"{self._calm_ns / 1e9:.0f} s without a late frame"
        self._move(range(self._at - 1, -1, -1), "up", why)

    def _move(self, way: Sequence[int], name: str, why: str) -> None:
        """To the first step on the way that differs from where it is, if there is one."""
        now = self.step
        at = next((i for i in way if self._there(i) != now), None)
        if at is None:
            return
        self._at = at
        self._offered.clear()
        self._use(self.step.network)
        log.warning("ladder: a step %s to %s, as %s", name, self.step.name, why)
        self._on_step(f"ladder steps {name}")

    def _there(self, at: int) -> Level:
        """The step as it can be taken: with the nearest network above that could be built."""
        networks = (each.network for each in self._steps[at::-1])
        network = next(each for each in networks if each not in self._missing)
        return replace(self._steps[at], network=network)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 <= number % 100 <= 20 else ending}"


LOOK_NS = 5_000_000_000  # some sensors take a millisecond to answer
SYSFS = Path("/sys")


class Thermal:
    """Call it: why the device is throttled, or None. At most one look in five seconds."""

    def __init__(self, sysfs: Path = SYSFS, now_ns: Callable[[], int] = monotonic_ns) -> None:
        self._now_ns = now_ns
        # Intel counts how often it throttled; everything else has zones with trip points
        self._counters = sorted(
            sysfs.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
        )
        self._count = self._throttles()
        self._trips = [
            (zone / "temp", trip.with_name(trip.name.replace("_type", "_temp")))
            for zone in sorted(sysfs.glob("class/thermal/thermal_zone*"))
            for trip in sorted(zone.glob("trip_point_*_type"))
            if _word(trip) in ("passive", "hot")
        ]
        self._looked_ns = now_ns() - LOOK_NS
        self._answer: str | None = None

    def __call__(self) -> str | None:
        """One line for the log, or None where nothing throttles or nothing can tell."""
        now_ns = self._now_ns()
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._answer = self._look()
        return self._answer

    def _look(self) -> str | None:
        before, self._count = self._count, self._throttles()
        if self._count > before:
            return "the processor throttles"
        for sensor, trip in self._trips:
            temperature, limit = _number(sensor), _number(trip)
            if limit > 0 and temperature >= limit:
                return f"the device throttles at {temperature / 1000:.0f} °C"
        return None

    def _throttles(self) -> int:
        return sum(_number(counter) for counter in self._counters)


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a sensor that is off
        return ""


def _number(path: Path) -> int:
    text = _word(path)
    return int(text) if text.lstrip("-").isdigit() else 0
