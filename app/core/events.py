"""What happened to an object, a zone, a line or a source, as one value and its JSON object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

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

_KINDS: dict[str, Any] = {"int": int, "float": (int, float)}
_ID = re.compile(r"[0-9A-Za-z]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event; None where a field is meaningless for its type, and then absent in JSON.

    ``box`` is the last observed one in source pixels (xyxy), ``score`` the track's best so far.
    ``direction`` is "in" or "out" of a crossing, "up" or "down" of a count. ``duration_s``: in
    view (gone), in the zone (leave, dwell). ``cause``: why a source is lost or has ended, with
    credentials masked. ``snapshot`` and ``clip`` are files below the folders of those outputs.
    ``node``: the machine of a fleet that saw it, under the ``lease`` of that number.
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
    node: str | None = None
    lease: int | None = None

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Event:
        """What ``as_json`` gave; fields of newer versions are left out. Raises ValueError."""
        given = {each.name: told[each.name] for each in fields(cls) if each.name in told}
        if missing := [name for name in ("type", "id", "time", "source") if name not in given]:
            raise ValueError(f"an event without {missing[0]}")
        for each in fields(cls):
            if each.name in given and each.name != "box":
                kind = _KINDS.get(str(each.type).removesuffix(" | None"), str)
                value = given[each.name]
                fits = isinstance(value, kind) and not isinstance(value, bool)
                if not fits or (kind is not str and not math.isfinite(value)):
                    raise ValueError(f"{each.name} of an event is {value!r:.80}")
        if given["type"] not in get_args(EventType) or not _ID.fullmatch(given["id"]):
            raise ValueError(f"an event is {given['type']!r:.80}, with the id {given['id']!r:.80}")
        if datetime.fromisoformat(given["time"].replace("Z", "+00:00")).tzinfo is None:
            raise ValueError(f"the time of an event is {given['time']!r:.80}")
        if "box" in given:
            given["box"] = tuple(float(value) for value in given["box"])
            if len(given["box"]) != 4 or not all(map(math.isfinite, given["box"])):
                raise ValueError(f"the box of an event is {given['box']!r:.80}")
        return cls(**given)

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


def file_stem(time: str, event_id: str) -> str:
    """``20260131T120004_01KG…``: of the files of the event with this time and id."""
    second = time.partition(".")[0].replace("-", "").replace(":", "").removesuffix("Z")
    return f"{second}_{event_id}"
