"""From the detections of one source to tracks, zones, lines, events and rules that fire.

Everything here is a function of detections, times of capture and configuration: the same input
gives the same output, byte for byte, whenever and however often it runs.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import Config, TrackOptions, parse_sources
from ..core.detections import Detections, DrawnShape, label_of
from ..core.errors import ConfigError
from ..core.events import Event, EventType, Fired
from .events import EventMaker
from .kalman import Floats
from .rules import Rule, RuleBook, check_rules
from .tables import one_of, read_table
from .tracker import Ints, Track, Tracker
from .zones import (
    Happening,
    Line,
    LineMonitor,
    Mask,
    Placed,
    Seen,
    Zone,
    ZoneMonitor,
    outside_masks,
)

TABLES = ("zone", "line", "mask", "rule")
MOST_SHAPES = 64  # zones, lines and masks of one source


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalyticsOptions:
    """Everything that is configured for one source.

    ``labels``: of what "appear" and "gone" are told, none named: all; everything is tracked.
    ``min_size``: of a box, width and height as parts of the frame.
    """

    track: TrackOptions = field(default_factory=TrackOptions)
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    masks: tuple[Mask, ...] = ()
    rules: tuple[Rule, ...] = ()
    labels: tuple[str, ...] = ()
    min_size: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, config: Config, source: str = "") -> AnalyticsOptions:
        """What a configuration says of the source with this name, "" where there is only one.

        A table with ``source = "NAME"`` is about that one, others are about all. Raises
        ConfigError.
        """
        names = [each.name for each in parse_sources(config.sources)]

        def mine(key: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
            for row in rows:
                if "source" in row and not names:
                    raise ConfigError(f"a [[{key}]] names a source; leave that out, as one runs")
                if "source" in row:
                    one_of(row["source"], names, f"source in a [[{key}]]")
            kept = [row for row in rows if row.get("source", source) == source]
            return [{k: value for k, value in row.items() if k != "source"} for row in kept]

        shapes = (config.zone, config.line, config.mask, config.rule)
        tables = {key: mine(key, rows) for key, rows in zip(TABLES, shapes, strict=True)}
        options = cls.from_tables(tables)
        return replace(options, track=config.track, labels=tuple(config.events.labels))

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> AnalyticsOptions:
        """From the arrays ``[[zone]]``, ``[[line]]``, ``[[mask]]`` and ``[[rule]]``.

        Other tables are left alone. Raises ConfigError that names the key and the cure.
        """

        def many(kind: type[Any], key: str) -> tuple[Any, ...]:
            rows = tables.get(key, [])
            if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
                raise ConfigError(f"{key} must be an array of tables; write [[{key}]]")
            return tuple(read_table(kind, row, f"[[{key}]] {i}") for i, row in enumerate(rows, 1))

        return cls(
            zones=many(Zone, "zone"),
            lines=many(Line, "line"),
            masks=many(Mask, "mask"),
            rules=many(Rule, "rule"),
        )

    def check(self, labels: Sequence[str], actions: Iterable[str] | None = None) -> None:
        """Raise ConfigError for what does not fit together or is unknown to the model."""
        for label in self.labels:
            one_of(label, labels, "labels of events")
        if len(self.zones) + len(self.lines) + len(self.masks) > MOST_SHAPES:
            raise ConfigError(f"more than {MOST_SHAPES} zones, lines and masks; take some away")
        for key, shapes in (("zone", self.zones), ("line", self.lines)):
            names = [shape.name for shape in shapes]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"two [[{key}]] are called {twice[0]!r}; give each its own name")
        for zone in self.zones:
            zone.check_zone(f"[[zone]] {zone.name}", labels)
        for line in self.lines:
            line.check(f"[[line]] {line.name}", least=2, labels=labels)
        for mask in self.masks:
            mask.check(f"[[mask]] {mask.name}", least=3, labels=labels)
        check_rules(
            self.rules,
            zones=[zone.name for zone in self.zones],
            lines=[line.name for line in self.lines],
            labels=labels,
            actions=actions,
        )


class Update(NamedTuple):
    """What a frame brought. The first three are parallel to its N detections."""

    track_ids: Ints  # (N,) int64, -1: none (yet)
    zones: list[tuple[str, ...]]  # names of those that the detection's track is in
    kept: np.ndarray[Any, np.dtype[np.bool_]]  # (N,) False: masked, or too small
    events: list[Event]
    fired: list[Fired]


class Analytics:
    """One source's tracker, zones, lines and rules. Used on the pipeline thread.

    ``labels`` are the model's. Raises ConfigError where ``options`` do not fit them. See
    ``EventMaker`` for ``wall_offset_ns``; ``tz`` is what the rules' times of day are meant in,
    None: the time of this machine. Ids go on after ``last_track_id``.
    """

    def __init__(
        self,
        options: AnalyticsOptions,
        *,
        labels: Sequence[str],
        source: str,
        name: str | None = None,
        wall_offset_ns: int = 0,
        tz: datetime.tzinfo | None = datetime.timezone.utc,
        last_track_id: int = 0,
    ) -> None:
        self._labels, self._tz = list(labels), tz
        self._make = EventMaker(source, name=name, wall_offset_ns=wall_offset_ns)
        self.tracker = Tracker(options.track, last_track_id=last_track_id)
        self.zones: list[ZoneMonitor] = []
        self.lines: list[LineMonitor] = []
        self._now_ns = 0
        self._shown: dict[str, Any] = {}
        self._watch(options)
        self._book = RuleBook(options.rules, tz)

    def reshape(self, options: AnalyticsOptions) -> tuple[list[Event], list[Fired]]:
        """Other zones, lines, masks and rules from the next frame on; tracks and ids go on.

        What is as it was keeps its stays and counts; of zones that are not, what is inside leaves.
        Raises ConfigError, and then nothing has changed.
        """
        zones, rules = self.zones, self._options.rules
        self._watch(options)
        events = [
            self._of_happening(each, self.tracker.find(each.track_id))
            for zone in zones
            if zone not in self.zones
            for each in zone.end()
        ]
        fired = self._book.update(
            events, time_ns=self._now_ns, wall_ns=self._make.wall_ns(self._now_ns)
        )
        if options.rules != rules:
            self._book = RuleBook(options.rules, self._tz)
        return events, fired

    def _watch(self, options: AnalyticsOptions) -> None:
        options.check(self._labels)
        labels, newest = self._labels, self.tracker.last_track_id
        zones = {monitor.zone: monitor for monitor in self.zones}
        lines = {monitor.line: monitor for monitor in self.lines}
        self._options = options
        self.zones = [zones.get(each) or ZoneMonitor(each, labels) for each in options.zones]
        self.lines = [
            lines.get(each) or LineMonitor(each, labels, after_id=newest) for each in options.lines
        ]
        self._monitors: list[ZoneMonitor | LineMonitor] = [*self.zones, *self.lines]
        self._masks = [Placed(mask, labels) for mask in options.masks]

    def update(
        self,
        detections: Detections,
        *,
        wh_px: tuple[int, int],
        captured_ns: int,
        media_ns: int | None = None,
        frame: int | None = None,
        still_ns: int = 0,
        motion: Floats | None = None,
    ) -> Update:
        """Ids, zones and events of one frame, in the order of capture.

        Times are of the recording where there is one (``media_ns``), else of capture. A time that
        runs back (a recording that starts again) ends everything that was going on. ``frame`` is
        the frame's index, for the events; ``still_ns`` and ``motion`` as in ``Tracker.update``.
        """
        now = captured_ns if media_ns is None else media_ns
        events: list[Event] = []
        if now < self._now_ns and self._shown:
            events += self._finish()
        self._now_ns = now
        self._shown = {"frame": frame, "media_ms": None if media_ns is None else media_ns / 1e6}
        xyxy = detections.xyxy.astype(np.float64)
        scores = detections.scores
        for placed in (*self._masks, *self._monitors):
            placed.place(wh_px)
        class_ids = detections.class_ids
        if self._masks or any(self._options.min_size):
            kept = outside_masks(self._masks, xyxy, scores, class_ids)
            least = np.array(self._options.min_size) * wh_px
            kept &= (xyxy[:, 2:] - xyxy[:, :2] >= least).all(1)
            all_ids = np.full(len(scores), -1, np.int64)
            xyxy, scores, class_ids = xyxy[kept], scores[kept], class_ids[kept]
        else:
            kept = np.ones(len(scores), bool)
            all_ids = None
        ids = self.tracker.update(
            xyxy, scores, class_ids, time_ns=now, still_ns=still_ns, motion=motion
        )
        events += [self._of_track("appear", t) for t in self.tracker.started if self._wants(t)]
        if self._monitors:
            events += self._monitored(ids, xyxy, scores, now)
        for track in self.tracker.ended:
            events += self._gone(track)
        if all_ids is not None:
            all_ids[kept] = ids
            ids = all_ids
        inside = [(zone.zone.name, zone.inside()) for zone in self.zones]
        zones = [tuple(n for n, members in inside if i in members) for i in ids.tolist()]
        wall_ns = self._make.wall_ns(now)
        fired = self._book.update(events, time_ns=now, wall_ns=wall_ns)
        return Update(ids, zones, kept, events, fired)

    def source_lost(self, time_ns: int, cause: str = "") -> tuple[list[Event], list[Fired]]:
        """The source has gone; its tracks live on until their times are over."""
        return self._of_source("source_lost", time_ns, cause)

    def source_back(self, time_ns: int) -> tuple[list[Event], list[Fired]]:
        return self._of_source("source_back", time_ns)

    def begin_at(self, wall_offset_ns: int) -> None:
        """The first frame has come: see ``EventMaker``. What was told before is of the source."""
        self._make.offset_ns = wall_offset_ns

    def end(self, *, is_over: bool = True, cause: str = "") -> tuple[list[Event], list[Fired]]:
        """What is in zones leaves, what is in view is gone, and, if ``is_over``, the run ends."""
        events = self._finish()
        if is_over:
            shown = {**self._shown, "cause": cause or None}
            events.append(self._make.make("ended", time_ns=self._now_ns, **shown))
        wall_ns = self._make.wall_ns(self._now_ns)
        return events, self._book.update(events, time_ns=self._now_ns, wall_ns=wall_ns)

    def counts(self) -> dict[str, Any]:
        """Objects in view by label, in each zone by label, and crossings of each line."""
        labels = self._labels

        def by_label(class_ids: Iterable[int]) -> dict[str, int]:
            found: dict[str, int] = {}
            for class_id in class_ids:
                label = label_of(labels, class_id)
                found[label] = found.get(label, 0) + 1
            return found

        held = {track.track_id: track for track in self.tracker.tracks()}
        return {
            "objects": by_label(track.class_id for track in held.values()),
            "zones": {
                z.zone.name: by_label(held[i].class_id for i in z.inside() if i in held)
                for z in self.zones
            },
            "lines": {
                line.line.name: {
                    way: {label_of(labels, c): n for (w, c), n in line.crossed.items() if w == way}
                    for way in ("in", "out")
                }
                for line in self.lines
            },
        }

    def shapes(self) -> list[DrawnShape]:
        """Zones with how many are inside, and lines with how many crossed them, to be drawn."""
        shapes = []
        for monitor in self._monitors:
            if isinstance(monitor, ZoneMonitor):
                text = f"{monitor.zone.name} {len(monitor.inside())}"
            else:
                ways = Counter[str]()
                for (way, _), count in monitor.crossed.items():
                    ways[way] += count
                text = f"{monitor.line.name} {ways['in']} in {ways['out']} out"
            value = int(monitor.shape.colour[1:] or "ffffff", 16)
            rgb = (value >> 16, value >> 8 & 255, value & 255)
            closed = isinstance(monitor, ZoneMonitor)
            shapes.append(DrawnShape(monitor.drawn.tolist(), closed, text, rgb))
        return shapes

    def _monitored(
        self, ids: Ints, xyxy: Floats, scores: NDArray[np.float32], now: int
    ) -> list[Event]:
        """What zones and lines tell of the detections that are tracked."""
        tracked = (ids >= 0).nonzero()[0]
        seen = Seen(
            ids[tracked].tolist(),
            xyxy[tracked],
            scores[tracked].astype(np.float64),
            self.tracker.class_ids[tracked],
            self.tracker.first_boxes(tracked),
            now,
        )
        ended = {track.track_id: track for track in self.tracker.ended}
        return [
            self._of_happening(each, ended.get(each.track_id) or self.tracker.find(each.track_id))
            for monitor in self._monitors
            for each in monitor.update(seen)
        ]

    def _wants(self, track: Track) -> bool:
        wanted = self._options.labels
        return not wanted or label_of(self._labels, track.class_id) in wanted

    def _finish(self) -> list[Event]:
        events = [
            self._of_happening(each, self.tracker.find(each.track_id))
            for zone in self.zones
            for each in zone.end()
        ]
        for track in self.tracker.end():
            events += self._gone(track)
        for line in self.lines:
            line.end()
        self._book.restart()
        return events

    def _gone(self, track: Track) -> list[Event]:
        events = [
            self._of_happening(happening, track)
            for monitor in self._monitors
            for happening in monitor.forget(track.track_id)
        ]
        if not self._wants(track):
            return events
        duration_s = (track.last_ns - track.first_ns) / 1e9
        return [*events, self._of_track("gone", track, duration_s=duration_s)]

    def _of_track(self, kind: EventType, track: Track, **more: Any) -> Event:
        return self._make.make(
            kind,
            time_ns=self._now_ns,
            track_id=track.track_id,
            label=label_of(self._labels, track.class_id),
            score=track.score,
            box=track.box,
            **self._shown,
            **more,
        )

    def _of_happening(self, what: Happening, track: Track | None) -> Event:
        more = what._asdict()
        kind, shape, _ = more.pop("type"), more.pop("shape"), more.pop("track_id")
        more["line" if kind == "cross" else "zone"] = shape
        more["count"] = more.pop("members")
        if track is not None:
            return self._of_track(kind, track, **more)
        return self._make.make(kind, time_ns=self._now_ns, **self._shown, **more)

    def _of_source(
        self, kind: EventType, time_ns: int, cause: str = ""
    ) -> tuple[list[Event], list[Fired]]:
        events = [self._make.make(kind, time_ns=time_ns, cause=cause or None)]
        wall_ns = self._make.wall_ns(time_ns)
        return events, self._book.update(events, time_ns=time_ns, wall_ns=wall_ns)
