"""Makes the events of a source, with ids that a replay makes again."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from ..core.events import Event, EventType

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class EventMaker:
    """Makes the events of one source, with ids that a replay makes again.

    An id is a ULID: 48 bits of milliseconds since 1970 of the event's time, then 32 bits of a hash
    of the source and its name, then 48 bits that number the events of the run. Ids of a source
    rise with time, and the same frames at the same times give the same ids. ``wall_offset_ns`` is
    what is added to a time of capture to get the time since 1970: measured once at the start of a
    live run and kept with its trace, 0 for a recording of which nobody knows when it was made.
    """

    def __init__(self, source: str, *, name: str | None = None, wall_offset_ns: int = 0) -> None:
        self._source, self._name, self.offset_ns = source, name, wall_offset_ns
        text = f"{source}\n{name or ''}".encode()
        self._origin = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
        self._count = 0

    def wall_ns(self, time_ns: int) -> int:
        """Nanoseconds since 1970 at the time of capture ``time_ns``."""
        return time_ns + self.offset_ns

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
