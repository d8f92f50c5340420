"""Counts of one source's objects: in view, in zones, over lines; for MQTT and metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConfigError
from ..core.events import Event, Fired
from .events import EventsOnlySink

MOST_LABELS = 64  # told apart; all further ones are "other", so that metrics stay few
DWELL_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


@dataclass(slots=True)
class DwellHistogram:
    """Stays in a zone: how many up to each of ``DWELL_S`` and longer, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DWELL_S) + 1))
    sum_s: float = 0.0

    def add(self, stay_s: float) -> None:
        self.counts[bisect_left(DWELL_S, stay_s)] += 1
        self.sum_s += stay_s


@dataclass(slots=True)
class ObjectCounts:
    """All counts at one moment; keys are labels, (zone, label) and (line, direction, label)."""

    now: Counter[str] = field(default_factory=Counter)
    appeared: Counter[str] = field(default_factory=Counter)
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    entered: Counter[tuple[str, str]] = field(default_factory=Counter)
    crossed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    dwell: dict[tuple[str, str], DwellHistogram] = field(default_factory=dict)


class ObjectTally(EventsOnlySink):
    """A sink that counts by events alone. ``zones`` and ``lines`` are told from the start, as 0.

    Raises ConfigError for two zones, or two lines, whose topics would be one.
    Any thread may ask. Objects of labels that ``[events] labels`` leaves out are not in view.
    """

    def __init__(self, zones: Iterable[str] = (), lines: Iterable[str] = ()) -> None:
        self._zones, self._lines = _topics_apart("zone", zones), _topics_apart("line", lines)
        self._lock = threading.Lock()
        self._labels: set[str] = set()
        self._in_view: dict[int, str] = {}
        self._inside: dict[tuple[str, int], str] = {}
        self._totals = ObjectCounts()

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        with self._lock:
            for event in events:
                if event.track_id is not None:
                    self._count(event, event.track_id)

    def counts(self) -> ObjectCounts:
        with self._lock:
            totals = self._totals
            return ObjectCounts(
                Counter(self._in_view.values()),
                totals.appeared.copy(),
                Counter((zone, label) for (zone, _), label in self._inside.items()),
                totals.entered.copy(),
                totals.crossed.copy(),
                {k: DwellHistogram(d.counts.copy(), d.sum_s) for k, d in totals.dwell.items()},
            )

    def retained(self) -> dict[str, Any]:
        """By topic: objects in view and in each zone by label, and crossings of each line."""
        counts = self.counts()
        zones: dict[str, dict[str, int]] = {name: {} for name in self._zones}
        for (zone, label), count in counts.inside.items():
            zones.setdefault(zone, {})[label] = count
        lines: dict[str, dict[str, dict[str, int]]] = {
            n: {"in": {}, "out": {}} for n in self._lines
        }
        for (line, way, label), count in counts.crossed.items():
            lines.setdefault(line, defaultdict(dict))[way][label] = count
        return {
            "objects": dict(counts.now),
            **{f"zones/{topic_part(name)}": told for name, told in zones.items()},
            **{f"lines/{topic_part(name)}": told for name, told in lines.items()},
        }

    def _count(self, event: Event, track_id: int) -> None:
        label, zone, totals = self._label(event.label or ""), event.zone or "", self._totals
        if event.type == "appear":
            self._in_view[track_id] = label
            totals.appeared[label] += 1
        elif event.type == "gone":
            self._in_view.pop(track_id, None)
        elif event.type == "enter":
            self._inside[zone, track_id] = label
            totals.entered[zone, label] += 1
        elif event.type == "leave":
            label = self._inside.pop((zone, track_id), label)
            totals.dwell.setdefault((zone, label), DwellHistogram()).add(event.duration_s or 0.0)
        elif event.type == "cross":
            totals.crossed[event.line or "", event.direction or "", label] += 1

    def _label(self, label: str) -> str:
        if label not in self._labels:
            if len(self._labels) >= MOST_LABELS:
                return "other"
            self._labels.add(label)
        return label


def topic_part(name: str) -> str:
    """The name of a zone or line as one level of a topic."""
    return "".join("_" if c in "+#/\0" else c for c in name) or "_"


def _topics_apart(kind: str, names: Iterable[str]) -> list[str]:
    by_topic: dict[str, str] = {}
    for name in names:
        if by_topic.setdefault(topic_part(name), name) != name:
            other = by_topic[topic_part(name)]
            raise ConfigError(
                f"the {kind}s {other!r} and {name!r} share the topic {topic_part(name)!r}, as +, # "
                "and / become _: rename one"
            )
    return list(by_topic.values())
