"""Makes the events of a source, with ids that a replay makes again, and names their files."""

from __future__ import annotations

import datetime
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..core.events import Event, EventType, Fired, file_stem

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


Which = Literal["none", "all", "ruled"]
_MOST_TRACKS = 4096


@dataclass
class FileNames:
    """Gives the events of one source their ``snapshot`` and ``clip``; pipeline thread.

    "all" events get a name, those that rules "ruled", or "none". A track's snapshot is named after
    the first of its events that has one. A clip is named after the event that begins it, and goes
    on while something is in view and ``after_s`` longer, for ``max_s`` at most, as ClipSink does.
    ``folder`` comes before the names: that of a source among several.
    """

    snapshots: Which = "none"
    clips: Which = "none"
    after_s: float = 5.0
    max_s: float = 120.0
    folder: str = ""
    _of_tracks: OrderedDict[int, str] = field(default_factory=OrderedDict)
    _in_view: set[int] = field(default_factory=set)
    _clip: str | None = None
    _began_ns: int = 0
    _until_ns: int | None = None  # None: while something is in view

    def give(
        self, events: Sequence[Event], fired: Sequence[Fired], time_ns: int
    ) -> tuple[list[Event], list[Fired]]:
        """The same with names. ``time_ns`` is on the clock of the source's frames."""
        if self._clip is not None:
            last_ns = self._began_ns + int(self.max_s * 1e9)
            until_ns = last_ns if self._until_ns is None else min(last_ns, self._until_ns)
            if not self._began_ns <= time_ns < until_ns:
                self._clip = None
        ruled: list[Fired] = []
        for each in fired:
            event = each.event
            if self.snapshots == "ruled" and "snapshot" in each.then:
                event = self._with_snapshot(event)
            if self.clips == "ruled" and "clip" in each.then:
                event = self._with_clip(event, time_ns)
            ruled.append(each._replace(event=event))
        told: list[Event] = []
        for event in events:
            told.append(event)
            if self.snapshots == "all":
                told[-1] = self._with_snapshot(told[-1])
            if self.clips == "all" and event.track_id is not None:
                told[-1] = self._with_clip(told[-1], time_ns)
            if event.type == "gone" and event.track_id is not None:
                self._of_tracks.pop(event.track_id, None)
        if self.snapshots == "all" or self.clips == "all":
            named = {event.id: event for event in told}
            ruled = [self._merged(each, named.get(each.event.id)) for each in ruled]
        return told, ruled

    @staticmethod
    def _merged(fired: Fired, named: Event | None) -> Fired:
        if named is None:
            return fired
        event = fired.event
        snapshot, clip = event.snapshot or named.snapshot, event.clip or named.clip
        return fired._replace(event=replace(event, snapshot=snapshot, clip=clip))

    def _with_snapshot(self, event: Event) -> Event:
        if event.track_id is None:
            return event
        name = self._of_tracks.setdefault(
            event.track_id, f"{self.folder}{file_stem(event.time, event.id)}_best.jpg"
        )
        if len(self._of_tracks) > _MOST_TRACKS:
            self._of_tracks.popitem(last=False)
        return replace(event, snapshot=name)

    def _with_clip(self, event: Event, time_ns: int) -> Event:
        """In a clip that goes on, or, where the event begins one, in that."""
        track_id, begins = event.track_id or 0, self.clips == "ruled"
        if event.type == "appear" and self.clips == "all":
            self._in_view.add(track_id)
            begins = True
        elif event.type == "gone":
            self._in_view.discard(track_id)
        elif not begins:
            return event if self._clip is None else replace(event, clip=self._clip)
        if begins and self._clip is None:
            self._clip, self._began_ns = (
                f"{self.folder}{file_stem(event.time, event.id)}.mp4",
                time_ns,
            )
        self._until_ns = None if self._in_view else time_ns + int(self.after_s * 1e9)
        return event if self._clip is None else replace(event, clip=self._clip)
