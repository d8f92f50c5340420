"""What happened to an object, a zone, a line or a source, as one value and its JSON object."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event; None where a field is meaningless for its type, and then absent in JSON.

    ``box`` is the last observed one in source pixels (xyxy), ``score`` the track's best so far.
    ``direction`` is "in" or "out" of a crossing, "up" or "down" of a count. ``duration_s``: in
    view (gone), in the zone (leave, dwell). ``snapshot`` and ``clip`` are set by sinks.
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
    snapshot: str | None = None
    clip: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of the event's line, numbers rounded as in the lines of detections."""
        told = {key: value for key, value in asdict(self).items() if value is not None}
        if self.box is not None:
            told["box"] = [round(value, 2) for value in self.box]
        for key, digits in (("score", 4), ("duration_s", 3), ("speed_kmh", 1), ("media_ms", 3)):
            if key in told:
                told[key] = round(told[key], digits)
        return told


class EventMaker:
    """Makes the events of one source, with ids that a replay makes again.

    An id is a ULID: 48 bits of milliseconds since 1970 of the event's time, then 32 bits of a hash
    of the source and its name, then 48 bits that number the events of the run. Ids of a source
    rise with time, and the same frames at the same times give the same ids. ``wall_offset_ns`` is
    what is added to a time of capture to get the time since 1970: measured once at the start of a
    live run and kept with its trace, 0 for a recording of which nobody knows when it was made.
    """

    def __init__(self, source: str, *, name: str | None = None, wall_offset_ns: int = 0) -> None:
        self._source, self._name, self._offset_ns = source, name, wall_offset_ns
        text = f"{source}\n{name or ''}".encode()
        self._origin = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
        self._count = 0

    def wall_ns(self, time_ns: int) -> int:
        """Nanoseconds since 1970 at the time of capture ``time_ns``."""
        return time_ns + self._offset_ns

    def make(self, kind: EventType, *, time_ns: int, **more: Any) -> Event:
        """The next event of this run, at the time of capture ``time_ns``."""
        ms = max(0, self.wall_ns(time_ns) // 1_000_000)
        number = (ms & (1 << 48) - 1) << 80 | self._origin << 48 | self._count
        self._count += 1
        stamp = _EPOCH + datetime.timedelta(milliseconds=ms)
        return Event(
            type=kind,
            id="".join(_BASE32[number >> shift & 31] for shift in range(125, -1, -5)),
            time=stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            source=self._source,
            name=self._name,
            **more,
        )
