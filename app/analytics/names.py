"""Names of the files that belong to events: one snapshot a track, one clip for what overlaps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..core.events import Event, Fired

Which = Literal["none", "all", "ruled"]
_MOST_TRACKS = 4096


def file_stem(event: Event) -> str:
    """``20260131T120004_01KG…``: of the files of this event."""
    second = event.time.partition(".")[0].replace("-", "").replace(":", "")
    return f"{second}_{event.id}"


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
            event.track_id, f"{self.folder}{file_stem(event)}_best.jpg"
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
            self._clip, self._began_ns = f"{self.folder}{file_stem(event)}.mp4", time_ns
        self._until_ns = None if self._in_view else time_ns + int(self.after_s * 1e9)
        return event if self._clip is None else replace(event, clip=self._clip)
