"""Chooses the fastest engine by a short measurement, and remembers it."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from time import monotonic

import numpy as np

from ..core.detections import Detections
from ..core.errors import DeviceError, KestrelError
from ..core.frame import Frame
from ..core.interfaces import Backend, BackendFactory, Slot
from ..models.cache import cache_dir, write_whole

log = logging.getLogger(__name__)

FRAME_WH = (1280, 720)
MEASURE_S = 0.5
WARM_ROUNDS = 3  # uses of each slot that do not count
LEAST_USES = 4  # of slots, for a frame or a batch of them
SCORE_OFF, PX_OFF = 1e-3, 0.5


@dataclass(frozen=True)
class EngineChoice:
    """The engines that can be tried, why others are not, and what a measurement depends on.

    ``agree``: engines that may be chosen only if they find, in ``known_frames``, the boxes that
    another one finds.
    """

    engines: Mapping[str, BackendFactory]
    skipped: Mapping[str, str] = field(default_factory=dict)
    key: Mapping[str, object] = field(default_factory=dict)
    known_frames: Callable[[], Sequence[Frame]] = tuple
    agree: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def fastest(choose: Callable[[], EngineChoice], wake: Callable[[], None]) -> Iterator[Backend]:
    """The fastest of the engines, open; to be entered on the pipeline thread.

    One log line says which it is, from what measurements, and what was not tried. Raises the last
    engine's error when none can be opened.
    """
    choice = choose()
    with ExitStack() as stack:
        if len(choice.engines) == 1:
            ((name, factory),) = choice.engines.items()
            log.info("engine auto: %s%s", name, _not_tried(choice.skipped))
            yield stack.enter_context(factory(wake))
            return
        memory = RememberedChoice(choice.key)
        backend = _remembered(stack, choice, memory, wake)
        yield backend or stack.enter_context(_measured(choice, memory)(wake))


def _remembered(
    stack: ExitStack, choice: EngineChoice, memory: RememberedChoice, wake: Callable[[], None]
) -> Backend | None:
    found = memory.read()
    if found is None or found[0] not in choice.engines:
        return None
    name, rates, day = found
    try:
        backend = stack.enter_context(choice.engines[name](wake))
    except KestrelError as fault:
        log.warning("engine auto: %s no longer opens (%s): measuring anew", name, fault)
        memory.forget()
        return None
    log.info(
        "engine auto: %s, as measured on %s: %s%s (to measure anew, remove %s)",
        *(name, day, _told(rates), _not_tried(choice.skipped), memory.path),
    )
    return backend


def _measured(choice: EngineChoice, memory: RememberedChoice) -> BackendFactory:
    rates: dict[str, float] = {}
    faults: dict[str, KestrelError] = {}
    found: dict[str, list[Detections]] = {}
    frames = choice.known_frames() if choice.agree.keys() & choice.engines.keys() else ()
    for name, factory in choice.engines.items():
        try:
            rates[name], found[name] = measure(factory, frames)
        except KestrelError as fault:
            faults[name] = fault
    if not rates:
        raise faults[list(choice.engines)[-1]]
    skipped = {**choice.skipped, **{name: str(fault) for name, fault in faults.items()}}
    for name, other in choice.agree.items():
        if name in rates and other in rates and not same_boxes(found[name], found[other]):
            del rates[name]
            skipped[name] = f"it is not proved to find the boxes of {other}"
    best = max(rates, key=lambda name: rates[name])
    why = "the fastest" if len(rates) > 1 else "the only one that opens"
    log.info("engine auto: %s, %s: %s%s", best, why, _told(rates), _not_tried(skipped))
    # a device that fails may do so today only; a model that an engine lacks an operator for stays
    if not any(isinstance(fault, DeviceError) for fault in faults.values()):
        memory.write(best, rates)
    return choice.engines[best]


def measure(factory: BackendFactory, known: Sequence[Frame] = ()) -> tuple[float, list[Detections]]:
    """Frames a second with every slot busy, and what is found in the known frames."""
    width, height = FRAME_WH
    frame = Frame(np.full((height, width, 3), 114, np.uint8), 0, 0)
    rung = threading.Event()  # nobody waits for it: collecting does
    with factory(rung.set) as backend:
        slots = deque(backend.slots)
        frames = [frame] * slots[0].capacity
        for slot in slots:
            slot.enqueue(frames)
        count, start_s = -WARM_ROUNDS * len(slots), monotonic()
        while count < LEAST_USES or monotonic() - start_s < MEASURE_S:
            slots[0].collect()
            slots[0].enqueue(frames)
            slots.rotate(-1)
            count += 1
            if count == 0:
                start_s = monotonic()
        rate = count * len(frames) / (monotonic() - start_s)
        for slot in slots:
            slot.collect()
        found = [_alone(slots[0], frame) for frame in known]
    return rate, found


def same_boxes(ours: Sequence[Detections], theirs: Sequence[Detections]) -> bool:
    """Whether float32 in another order explains all differences: ``SCORE_OFF``, ``PX_OFF``.

    Without any box nothing is proved.
    """
    return any(map(len, ours)) and len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _same(a: Detections, b: Detections) -> bool:
    """Each box has one of its class at its place; equals in score may have changed places."""
    if len(a) != len(b):
        return False
    free = list(range(len(b)))
    for i in range(len(a)):
        for j in free:
            if (
                a.class_ids[i] == b.class_ids[j]
                and abs(a.scores[i] - b.scores[j]) <= SCORE_OFF
                and np.abs(a.xyxy[i] - b.xyxy[j]).max() <= PX_OFF
            ):
                free.remove(j)
                break
    return not free


def _alone(slot: Slot, frame: Frame) -> Detections:
    slot.enqueue([frame])
    return slot.collect()[0][0]


def _told(rates: Mapping[str, float]) -> str:
    falling = sorted(rates.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {rate:.3g} FPS" for name, rate in falling)


def _not_tried(skipped: Mapping[str, str]) -> str:
    return "".join(f"; not {name}: {why}" for name, why in skipped.items())


class RememberedChoice:
    """The winner for one key: a file of its own, so that two processes never mix theirs."""

    def __init__(self, key: Mapping[str, object]) -> None:
        self._key = key
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self.path = cache_dir("auto") / f"{digest}.json"

    def read(self) -> tuple[str, dict[str, float], str] | None:
        """Engine, frames a second of each, and the day; None if nothing sound is there."""
        try:
            data = json.loads(self.path.read_text("utf-8"))
            rates = {str(name): float(rate) for name, rate in data["fps"].items()}
            return str(data["engine"]), rates, str(data["time"])[:10]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, engine: str, rates: Mapping[str, float]) -> None:
        """Remember; what cannot be written is measured again next time."""
        data = {
            "engine": engine,
            "fps": {name: round(rate, 2) for name, rate in rates.items()},
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "key": dict(self._key),
        }
        try:
            write_whole(self.path, (json.dumps(data, indent=1) + "\n").encode())
        except OSError as fault:
            log.warning("the choice cannot be kept in %s: %s", self.path.parent, fault.strerror)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
