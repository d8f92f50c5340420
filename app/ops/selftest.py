"""The canary: a known picture now and then, between frames, must give its known boxes.

A GPU can go wrong without any error, and then finds nothing, or ghosts, for ever.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.detections import Detections
from ..core.errors import DeviceError, ModelError
from ..core.filters import box_iou
from ..core.frame import Frame

log = logging.getLogger(__name__)

SCORE = 0.1  # engines and precisions differ by less
LEAST_IOU = 0.75


class KnownAnswer(NamedTuple):
    """One box of the known picture; ``box`` in its pixels."""

    class_id: int
    score: float
    box: tuple[float, float, float, float]


def answers(detections: Detections) -> list[KnownAnswer]:
    """The boxes, as the known picture has them."""
    return [
        KnownAnswer(int(i), float(s), (float(b[0]), float(b[1]), float(b[2]), float(b[3])))
        for i, s, b in zip(detections.class_ids, detections.scores, detections.xyxy, strict=True)
    ]


class GoldenFrameCheck:
    """A ``Canary``: ``pixels`` (H, W, 3) BGR every ``every_s`` seconds, the first at once.

    ``threshold`` and ``iou`` are the engine's. ``expected``: its boxes with these, or with a higher
    threshold; None: those of the first answer. ``on_answer`` is called after every good one.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        *,
        every_s: float,
        threshold: float,
        iou: float,
        expected: Sequence[KnownAnswer] | None = None,
        on_answer: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._pixels, self._every_s, self._clock = pixels, every_s, clock
        self._expected, self._on_answer = expected, on_answer
        self._recorded, self._recorded_with = expected, (threshold, iou)
        self.on_gpu = False  # decides the exit code
        self._weak = threshold + SCORE
        self._tuned = 0
        self._asked: deque[int] = deque()  # of each picture under way: _tuned at its start
        self._next_s = float("-inf")
        self.judged = 0

    def tune(self, *, score: float, iou: float) -> None:
        threshold, recorded_iou = self._recorded_with
        # else it is taken anew: such thresholds report what was not recorded
        holds = score >= threshold and iou == recorded_iou
        self._expected = self._recorded if holds else None
        self._weak = score + SCORE
        self._tuned += 1

    def due(self) -> Frame | None:
        now_s = self._clock()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + self._every_s
        self._asked.append(self._tuned)
        return Frame(self._pixels, -1, 0)

    def judge(self, detections: Detections) -> None:
        if self._asked and self._asked.popleft() != self._tuned:
            self._on_answer()  # the engine works; by which thresholds is not known
            return
        found = answers(detections)
        if self._expected is None:
            self._expected = found
            log.info("canary: the known picture gives %d boxes; it must go on to do so", len(found))
        elif fault := difference(self._expected, found, sure=self._weak):
            raise self._error(fault)
        self.judged += 1
        self._on_answer()

    def _error(self, fault: str) -> DeviceError | ModelError:
        if self.on_gpu:
            return DeviceError(
                f"canary: in the known picture {fault}, so the GPU computes wrongly. The process "
                "ends so that its supervisor can start it anew; if it comes back, look at dmesg "
                "for Xid messages, at temperature and power supply"
            )
        return ModelError(
            f"canary: in the known picture {fault}, so the engine computes wrongly: start it anew; "
            "if it comes back, compare the weights with their checksum (doctor) and test the memory"
        )


def difference(
    expected: Sequence[KnownAnswer], found: Sequence[KnownAnswer], *, sure: float
) -> str | None:
    """What is missing or new; boxes that score less than ``sure`` may come and go."""
    left = list(found)
    for one in expected:
        twin = max(left, key=lambda other: _likeness(one, other), default=None)
        if twin is not None and _likeness(one, twin) > 0:
            left.remove(twin)
        elif one.score >= sure:
            return f"{_told(one)} is missing"
    ghosts = [one for one in left if one.score >= sure]
    return f"{_told(ghosts[0])} is new" if ghosts else None


def _told(one: KnownAnswer) -> str:
    box = ", ".join(f"{value:.0f}" for value in one.box)
    return f"class {one.class_id} at [{box}] with score {one.score:.2f}"


def _likeness(one: KnownAnswer, other: KnownAnswer) -> float:
    """IoU; 0 for what cannot be the same."""
    if one.class_id != other.class_id or abs(one.score - other.score) > SCORE:
        return 0.0
    iou = box_iou(one.box, other.box)
    return iou if iou >= LEAST_IOU else 0.0
