"""Detections of made-up scenes, and what a source's analytics say of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from app.analytics.analytics import Analytics, AnalyticsOptions
from app.analytics.events import Event
from app.analytics.rules import Fired
from app.core.detections import Detections

LABELS = ("person", "car")
WH = (1280, 720)
SECOND = 1_000_000_000

Box = tuple[float, float, float, float, float, int]
"""x1, y1, x2, y2, score, class id"""


def detections(boxes: Iterable[Box]) -> Detections:
    rows = sorted(boxes, key=lambda box: -box[4])
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(
        np.ascontiguousarray(array[:, :4]),
        np.ascontiguousarray(array[:, 4]),
        array[:, 5].astype(np.int32),
    )


def person(x: float, y: float, *, height: float = 200, score: float = 0.85, kind: int = 0) -> Box:
    """Bottom centre at (x, y)."""
    half = height * 0.2
    return x - half, y - height, x + half, y, score, kind


class Told(NamedTuple):
    events: list[Event]
    fired: list[Fired]
    ids: list[list[int]]
    analytics: Analytics

    def of(self, *kinds: str) -> list[Event]:
        return [event for event in self.events if event.type in kinds]


def run(
    options: AnalyticsOptions, frames: Iterable[tuple[float, Iterable[Box]]], *, offset_ns: int = 0
) -> Told:
    """What is told of frames, each a time in seconds and its boxes."""
    analytics = Analytics(options, labels=LABELS, source="made", wall_offset_ns=offset_ns)
    told = Told([], [], [], analytics)
    for i, (time_s, boxes) in enumerate(frames):
        update = analytics.update(
            detections(boxes), wh_px=WH, captured_ns=round(time_s * SECOND), frame=i
        )
        told.events.extend(update.events)
        told.fired.extend(update.fired)
        told.ids.append(update.track_ids.tolist())
    events, fired = analytics.end()
    told.events.extend(events)
    told.fired.extend(fired)
    return told
