"""Analytics of one stream in its place in the pipeline, before all sinks."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import replace

from ..core.detections import Result
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from .analytics import Analytics, AnalyticsOptions

_LOST, _THERE = ("reconnecting", "failed"), ("live", "replay")


class AnalyticsStage:
    """See core.interfaces.Analyser. ``replay``: times of events are those in the recording.

    In a live run they are of this machine's clock at the first frame, onwards. Track ids go on
    over a change of source or model, of which nothing else is kept.
    """

    def __init__(self, options: AnalyticsOptions, *, replay: bool) -> None:
        self._options, self._replay = options, replay
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._analytics: Analytics | None = None
        self._last_track_id = 0
        self._clock_ns = 0  # monotonic time − the frames' own
        self._lost = False
        self._events: list[Event] = []  # for the next result
        self._fired: list[Fired] = []

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See core.interfaces.Analyser; a source that is opened again is the same."""
        before = self._source
        same = before and (before.uri, before.name) == (source.uri, source.name)
        if not same or list(labels) != list(self._labels):
            self._options.check(labels)
            if self._analytics is not None:
                events, fired = self._analytics.end(is_over=False)
                self._events += events
                self._fired += fired
                self._last_track_id = self._analytics.tracker.last_track_id
            self._analytics = None
        self._source, self._labels = source, labels

    def update(self, result: Result) -> Result:
        """See core.interfaces.Analyser. What a mask hides is left out."""
        frame, found = result.frame, result.detections
        self._clock_ns = frame.captured_ns - frame.time_ns
        analytics = self._analytics
        if analytics is None:
            analytics = self._analytics = self._begin()
        update = analytics.update(
            found,
            wh_px=frame.wh_px,
            captured_ns=frame.captured_ns,
            media_ns=frame.media_ns,
            frame=frame.index,
        )
        events, self._events = [*self._events, *update.events], []
        fired, self._fired = [*self._fired, *update.fired], []
        zones = update.zones
        found = replace(found, track_ids=update.track_ids)
        if not update.kept.all():
            found = found[update.kept]
            zones = [names for names, kept in zip(zones, update.kept, strict=True) if kept]
        return replace(
            result,
            detections=found,
            events=events,
            fired=fired,
            zones=zones,
            shapes=analytics.shapes(),
        )

    def follow(self, state: str) -> tuple[Sequence[Event], Sequence[Fired]]:
        """See core.interfaces.Analyser."""
        if self._analytics is None or state not in (_THERE if self._lost else _LOST):
            return (), ()
        self._lost = not self._lost
        now_ns = time.monotonic_ns() - self._clock_ns
        if self._lost:
            return self._analytics.source_lost(now_ns)
        return self._analytics.source_back(now_ns)

    def end(self) -> tuple[Sequence[Event], Sequence[Fired]]:
        """See core.interfaces.Analyser."""
        if self._analytics is None:
            return self._events, self._fired
        events, fired = self._analytics.end()
        return [*self._events, *events], [*self._fired, *fired]

    def _begin(self) -> Analytics:
        assert self._source is not None, "sinks are open before the first result"
        wall_ns = 0 if self._replay else time.time_ns() - time.monotonic_ns() + self._clock_ns
        return Analytics(
            self._options,
            labels=self._labels,
            source=self._source.uri,
            name=self._source.name or None,
            wall_offset_ns=wall_ns,
            tz=datetime.timezone.utc if self._replay else None,
            last_track_id=self._last_track_id,
        )
