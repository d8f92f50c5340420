"""Analytics of one stream in its place in the pipeline, before all sinks."""

from __future__ import annotations

import datetime
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ..core.detections import Result
from ..core.errors import ConfigError
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.states import LOST, OVER, WORKING, SourceStatus
from .analytics import Analytics, AnalyticsOptions
from .events import FileNames
from .tracker import CameraMotion

log = logging.getLogger(__name__)

_NONE: tuple[tuple[()], tuple[()]] = (), ()


class Clock(NamedTuple):
    """``wall_offset_ns``: from monotonic times to those since 1970; ``tz``: None for here."""

    wall_offset_ns: int
    tz: datetime.tzinfo | None = None

    @classmethod
    def now(cls) -> Clock:
        return cls(time.time_ns() - time.monotonic_ns())


class AnalyticsStage:
    """See core.interfaces.Analyser. ``replay``: times of events are those in the recording.

    In a live run they are of this machine's clock at the first frame, onwards; in a replay with
    the ``clock`` of a run, of that one's. Track ids go on
    over a change of source or model, of which nothing else is kept. Without ``tracks`` there are
    only the events of the source. ``names``: gives events the names of their files.
    """

    def __init__(
        self,
        options: AnalyticsOptions,
        *,
        replay: bool,
        tracks: bool = True,
        names: FileNames | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or (None if replay else Clock.now())
        self._options, self._replay, self._tracks = options, replay, tracks
        self._wanted: deque[AnalyticsOptions] = deque(maxlen=1)  # from the next frame on
        self._names = names or FileNames()
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._analytics: Analytics | None = None
        self._camera = CameraMotion()
        self._last_track_id = 0
        self._clock_ns = self._last_ns = 0  # monotonic time − the frames' own; of the last frame
        self._lost = self._over = False
        self._began = False  # with a frame
        self._events: list[Event] = []  # for the next result
        self._fired: list[Fired] = []

    def check(self, options: AnalyticsOptions) -> None:
        """Raise ConfigError where ``reshape`` with these could not be; any thread."""
        if self._source is None:
            raise ConfigError("nothing runs yet; try again once there is a picture")
        options.check(self._labels)

    def reshape(self, options: AnalyticsOptions) -> None:
        """Other zones, lines, masks and rules from the next frame on, and tracks; any thread."""
        self._wanted.append(options)

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
        self._source, self._labels, self._camera = source, labels, CameraMotion()

    def update(self, result: Result) -> Result:
        """See core.interfaces.Analyser. What a mask hides is left out."""
        frame, found = result.frame, result.detections
        self._clock_ns, self._over = frame.captured_ns - frame.time_ns, False
        self._last_ns = frame.time_ns
        if self._wanted:
            self._reshape(self._wanted.popleft())
        analytics = self._analytics = self._analytics or self._begin()
        if not self._began:
            analytics.begin_at(self._wall_offset_ns())
            self._began = True
        if not self._tracks:
            events, self._events = self._events, []
            return replace(result, events=events) if events else result
        update = analytics.update(
            found,
            wh_px=frame.wh_px,
            captured_ns=frame.captured_ns,
            media_ns=frame.media_ns,
            frame=frame.index,
            still_ns=frame.still_ns,
            motion=self._camera.estimate(frame) if self._options.track.camera_motion else None,
        )
        events, self._events = [*self._events, *update.events], []
        fired, self._fired = [*self._fired, *update.fired], []
        events, fired = self._names.give(events, fired, frame.time_ns)
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

    def follow(self, status: SourceStatus) -> tuple[Sequence[Event], Sequence[Fired]]:
        away = status.state in LOST
        if self._source is None or self._over:
            return _NONE
        if status.state in OVER:
            return self.end(status)
        if away == self._lost or not (away or status.state in WORKING):
            return _NONE
        return self._lose(status) if away else self._come_back()

    def end(self, status: SourceStatus) -> tuple[Sequence[Event], Sequence[Fired]]:
        if self._source is None or self._over:
            return _NONE
        events, fired = self._events, self._fired
        self._events, self._fired = [], []
        analytics = self._analytics = self._analytics or self._begin()
        if status.state == "failed" and not self._lost:
            told = self._lose(status)
            events, fired = [*events, *told[0]], [*fired, *told[1]]
        # a replay's end is told in the same words wherever the reader of its file was by then
        cause = "" if self._replay and status.state != "failed" else status.cause
        if cause and status.state not in OVER:  # why it was so before is not why it ends
            cause = "stopped"
        told = analytics.end(cause=cause)
        self._over = True
        return self._names.give([*events, *told[0]], [*fired, *told[1]], self._now_ns())

    def _reshape(self, options: AnalyticsOptions) -> None:
        try:
            if self._analytics is not None:
                events, fired = self._analytics.reshape(options)
                self._events += events
                self._fired += fired
            self._options, self._tracks = options, True
        except ConfigError as fault:  # another model came in between
            log.warning("zones and lines stay as they were: %s", fault)

    def _lose(self, status: SourceStatus) -> tuple[Sequence[Event], Sequence[Fired]]:
        self._analytics = self._analytics or self._begin()
        self._lost = True
        told = self._analytics.source_lost(self._now_ns(), status.cause)
        return self._names.give(*told, self._now_ns())

    def _come_back(self) -> tuple[Sequence[Event], Sequence[Fired]]:
        assert self._analytics is not None, "it was lost before"
        self._lost = False
        return self._names.give(*self._analytics.source_back(self._now_ns()), self._now_ns())

    def _now_ns(self) -> int:
        """On the clock of the frames; monotonic before the first of a live run."""
        return self._last_ns if self._replay else time.monotonic_ns() - self._clock_ns

    def _wall_offset_ns(self) -> int:
        return 0 if self._clock is None else self._clock.wall_offset_ns + self._clock_ns

    def _begin(self) -> Analytics:
        assert self._source is not None, "sinks are open before the first result"
        return Analytics(
            self._options,
            labels=self._labels,
            source=self._source.uri,
            name=self._source.name or None,
            wall_offset_ns=self._wall_offset_ns(),
            tz=datetime.timezone.utc if self._clock is None else self._clock.tz,
            last_track_id=self._last_track_id,
        )
