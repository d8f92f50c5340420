"""``bench --cameras``: how many cameras this machine holds before their frames grow too old.

Each camera is the recording at its own pace, all of them in one run and each begun at another
place, so that not all move at once. The number is doubled until it is too many, then bisected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isnan
from time import monotonic, process_time, sleep
from typing import Any

from ...config import MOST, Config, MotionOptions
from ...core.credentials import mask_credentials
from ...core.errors import ConfigError, SourceEnded
from ...core.frame import Frame, SourceInfo
from ...core.interfaces import FrameSource, Seekable
from ...core.stats import percentiles
from ...inference.cpu import cores
from ...models.manifest import Model
from ...ops.power import Energy, EnergySink
from ...pipeline.handoff import Policy
from ...runtime.build import RunPlan, build
from ...runtime.engines import choose_model
from ...runtime.inputs import NamedInput, source_options
from ...runtime.outputs import without_outputs
from ...sinks.adapters import AgeSink
from ...sources.uri import is_recording, make_source
from .. import Destination, columns, figure, header

log = logging.getLogger(__name__)

LOST = 0.01  # of the frames: more is too many cameras
QUIET = ("pipeline", "runtime", "inference")
WARM_UP_S, LOOK_S = 2.0, 0.05
MODES: dict[str, MotionOptions] = {
    "all frames": MotionOptions(on=False),
    "motion gate, all decoded": MotionOptions(on=True, wake_s=0),
    "motion gate": MotionOptions(on=True),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """So many cameras for a while."""

    cameras: int
    fps: float  # of a camera, as it sends
    age_p99_ms: float  # NaN: nothing was inferred
    lost: float  # share of the frames that were replaced by newer ones
    inferred: float  # share of the frames
    cpu_percent: float  # of all cores this process may use
    memory_mb: float
    energy: Energy

    def holds(self, age_ms: float) -> bool:
        """Whether no frame grows older, but for one in a hundred, and none is lost."""
        return self.lost <= LOST and (isnan(self.age_p99_ms) or self.age_p99_ms <= age_ms)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cameras": self.cameras,
            "fps": round(self.fps, 2),
            "age_p99_ms": None if isnan(self.age_p99_ms) else round(self.age_p99_ms, 1),
            "lost": round(self.lost, 4),
            "inferred": round(self.inferred, 3),
            "cpu_percent": round(self.cpu_percent, 1),
            "memory_mb": round(self.memory_mb, 1),
            "energy": self.energy.figures(),
        }


class _Looped:
    """A recording that begins somewhere in it, and again from its start when it ends."""

    def __init__(self, make: Callable[[], FrameSource], share: float) -> None:
        self._make, self._share = make, share
        self._inner = make()
        self._offset = self._next = 0

    def open(self) -> SourceInfo:
        """See FrameSource."""
        info = self._inner.open()
        length_s = (info.frame_count or 0) / (info.fps or 1)
        if isinstance(self._inner, Seekable) and self._inner.can_seek:
            self._inner.seek(round(self._share * length_s * 1e9))
        return info

    def read(self, timeout_s: float) -> Frame | None:
        """See FrameSource."""
        try:
            frame = self._inner.read(timeout_s)
        except SourceEnded:
            self._inner.close()
            self._inner, self._offset = self._make(), self._next
            self._inner.open()
            return None
        if frame is None:
            return None
        self._next = self._offset + frame.index + 1
        return replace(frame, index=self._next - 1)

    def close(self) -> None:
        """See FrameSource."""
        self._inner.close()


def run_cameras(config: Config, destination: Destination, *, age_ms: float, seconds: float) -> int:
    """Measure, print the table, write the JSON."""
    if not 0 < age_ms <= 60_000 or not 1 <= seconds <= 3600:
        raise ConfigError("--age-ms must lie above 0, at most 60000; --seconds between 1 and 3600")
    source = config.source or "sample:"
    if not is_recording(source):
        raise ConfigError("bench --cameras plays a recording as cameras; name one with --source")
    model = choose_model(config)
    rows = {}
    with _quiet():
        for mode, motion in MODES.items():
            plan = replace(config, motion=motion)
            rows[mode] = most(
                lambda n, plan=plan: _trial(plan, model, source, n, seconds),  # type: ignore[misc]
                age_ms=age_ms,
            )
    report = {
        **header("cameras"),
        "model": model.spec.name,
        "source": mask_credentials(source),
        "age_ms": age_ms,
        "seconds": seconds,
        "modes": {mode: held and held.figures() for mode, held in rows.items()},
    }
    return destination.give(report, _table(report))


@contextmanager
def _quiet() -> Iterator[None]:
    """Runs say no more than what is wrong: else each tells its engine and every source."""
    rooms = [logging.getLogger(f"{log.name.partition('.')[0]}.{room}") for room in QUIET]
    if log.isEnabledFor(logging.DEBUG):
        rooms.clear()
    levels = [each.level for each in rooms]
    try:
        for each in rooms:
            each.setLevel(logging.WARNING)
        yield
    finally:
        for each, level in zip(rooms, levels, strict=True):
            each.setLevel(level)


def most(trial: Callable[[int], Trial], *, age_ms: float) -> Trial | None:
    """The trial with the most cameras that holds; None where one camera is too many."""
    best, count, too_many = None, 1, MOST + 1
    while count < too_many:
        made = trial(count)
        log.info(
            "%d cameras: age p99 %.0f ms, %.1f %% lost", count, made.age_p99_ms, 100 * made.lost
        )
        if made.holds(age_ms):
            best = made
        else:
            too_many = count
        low = best.cameras if best else 0
        count = min(2 * count, MOST) if too_many > MOST else (low + too_many) // 2
        if count <= low:
            break
    return best


def _trial(config: Config, model: Model, source: str, count: int, seconds: float) -> Trial:
    import psutil  # late, as all that costs start-up time

    energy, ages = EnergySink(), AgeSink()
    options = source_options(config)
    inputs = [
        NamedInput(
            str(i),
            _Looped(partial(make_source, source, realtime=True, options=options), i / count),
        )
        for i in range(count)
    ]
    run = build(
        RunPlan(
            config=replace(without_outputs(config), max_age_ms=None, max_frames=None),
            policy=Policy.LATEST,
            model=model,
            inputs=inputs,
            sinks=[energy, ages],
            reports=False,
        )
    )
    pipeline, marks = run.pipeline, []

    def wait(goes_on: Callable[[], bool], pause_s: float) -> None:
        until_s = monotonic() + pause_s
        while goes_on() and monotonic() < until_s:
            sleep(LOOK_S)
        marks.append((monotonic(), process_time(), pipeline.counts(), ages.take()))

    def beside(goes_on: Callable[[], bool]) -> None:
        while goes_on() and not pipeline.counts().processed:  # the engine is built
            sleep(LOOK_S)
        for pause_s in (WARM_UP_S, seconds):
            wait(goes_on, pause_s)

    ending = run.finish(beside=beside)
    if ending.stopped:
        raise KeyboardInterrupt
    if ending.error is not None:
        raise ending.error
    (began_s, cpu_began_s, before, _), (ended_s, cpu_ended_s, after, ages_ms) = marks
    wall_s = ended_s - began_s
    captured = max(1, after.captured - before.captured)
    lost = sum(after.dropped.get(k, 0) - before.dropped.get(k, 0) for k in ("replaced", "stale"))
    return Trial(
        count,
        captured / wall_s / count,
        percentiles(ages_ms, 99)[0],
        lost / captured,
        (after.processed - before.processed) / captured,
        100 * (cpu_ended_s - cpu_began_s) / wall_s / cores(),
        psutil.Process().memory_info().rss / 2**20,
        energy.energy(),
    )


def _table(report: dict[str, Any]) -> str:
    head = ("", "cameras", "fps", "age p99 ms", "inferred %", "CPU %", "memory MB", "W a camera")
    rows: list[Sequence[str]] = []
    for mode, held in report["modes"].items():
        if held is None:
            rows.append((mode, "0", *["–"] * 6))
            continue
        watts = held["energy"]["watts"]
        cells = (held["fps"], held["age_p99_ms"], 100 * held["inferred"], held["cpu_percent"])
        each_w = None if watts is None else watts / held["cameras"]
        rows.append(
            (
                *(mode, str(held["cameras"])),
                *(figure(each, ".1f") for each in (*cells, held["memory_mb"], each_w)),
            )
        )
    counts = [held["cameras"] if held else 0 for held in report["modes"].values()]
    advice = (
        f"plan for two thirds: {counts[-1] * 2 // 3} cameras like this one with --motion, "
        f"{counts[0] * 2 // 3} without"
    )
    first = f"cameras that send {report['source']}, with frames at most {report['age_ms']:g} ms old"
    return "\n".join([first, "", *columns(head, rows, numbers=True), "", advice])
