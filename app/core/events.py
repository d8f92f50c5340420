"""What happened to an object, a zone, a line or a source, as one value and its JSON object."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

EventType = Literal[
    "appear",
    "gone",
    "enter",
    "leave",
    "dwell",
    "cross",
    "count",
    "source_lost",
    "source_back",
    "ended",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event; None where a field is meaningless for its type, and then absent in JSON.

    ``box`` is the last observed one in source pixels (xyxy), ``score`` the track's best so far.
    ``direction`` is "in" or "out" of a crossing, "up" or "down" of a count. ``duration_s``: in
    view (gone), in the zone (leave, dwell). ``cause``: why a source is lost or has ended, with
    credentials masked. ``snapshot`` and ``clip`` are files below the folders of those outputs.
    ``lease``: of the fleet's node that saw it.
    """

    type: EventType
    id: str
    time: str  # RFC 3339, UTC, milliseconds
    source: str
    name: str | None = None
    track_id: int | None = None
    label: str | None = None
    zone: str | None = None
    line: str | None = None
    direction: str | None = None
    duration_s: float | None = None
    score: float | None = None
    box: tuple[float, float, float, float] | None = None
    count: int | None = None
    speed_kmh: float | None = None
    frame: int | None = None
    media_ms: float | None = None
    cause: str | None = None
    snapshot: str | None = None
    clip: str | None = None
    lease: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of the event's line, numbers rounded as in the lines of detections."""
        told = {key: value for key, value in asdict(self).items() if value is not None}
        if self.box is not None:
            told["box"] = [round(value, 2) for value in self.box]
        for key, digits in (("score", 4), ("duration_s", 3), ("speed_kmh", 1), ("media_ms", 3)):
            if key in told:
                told[key] = round(told[key], digits)
        return told


class Fired(NamedTuple):
    """A rule that an event set off, and what it calls for.

    The event's ``duration_s`` is how long the rule waited, if it did.
    """

    rule: str
    then: tuple[str, ...]
    event: Event
