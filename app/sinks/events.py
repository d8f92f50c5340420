"""Events for listeners and files: of tracks, or, without them, of labels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..config import EventOptions, nearest
from ..core.detections import Result, label_of
from ..core.errors import SinkError
from ..core.events import Event, Fired
from ..core.frame import Frame, SourceInfo
from .json_lines import LinesFile, ResultEncoder, quoted

Kind = Literal["appear", "disappear", "moment", "other"]
_KINDS: dict[str, Kind] = {"appear": "appear", "gone": "disappear"}
_NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(slots=True)
class _Seen:
    """One label: since when, until when, and at its best."""

    first_ns: int
    last_ns: int
    frames: int = 0
    told: bool = False
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class EventMessage:
    """What a listener is told of an event; ``text`` is its JSON object, with an id of its own.

    ``subject``: the label or track that comes into view or leaves it. A "moment" is worth a clip
    whatever is in view; "other" is not.
    """

    kind: Kind
    subject: str
    text: str


Listener = Callable[[EventMessage], None]


class EventSink:
    """Tells ``listeners`` of each label that appears and disappears, on the pipeline thread.

    A label has appeared once it was seen in ``appear_frames`` frames without a gap of ``gone_s``,
    and is gone when it was not seen for that long. What is in view at the end disappears then.
    """

    def __init__(self, options: EventOptions, listeners: Sequence[Listener]) -> None:
        self._options, self._listeners = options, listeners
        self._wanted = set(options.labels)
        self._gone_ns = int(options.gone_s * 1e9)
        self._labels: Sequence[str] = ()
        self._source: dict[str, str] = {}
        self._line = ResultEncoder()
        self._run, self._count = uuid.uuid4().hex[:12], 0
        self._seen: dict[str, _Seen] = {}
        self._last: Frame | None = None  # without its pixels

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names; raises SinkError for a wanted label that the model does not have."""
        unknown = sorted(self._wanted - set(labels))
        if unknown:
            known = f"it knows {', '.join(labels[:20])}{', …' if len(labels) > 20 else ''}"
            raise SinkError(
                f"labels in [events] has {unknown[0]!r}, which the model does not know; "
                f"{nearest(unknown[0], labels) or known}"
            )
        named = {"name": source.name} if source.name else {}
        self._source, self._labels = {"source": source.uri, **named}, labels
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        """Compare with what was in view."""
        frame, found = result.frame, result.detections
        now_ns = frame.time_ns
        best: dict[str, int] = {}
        for i, class_id in enumerate(found.class_ids.tolist()):
            best.setdefault(label_of(self._labels, class_id), i)  # scores fall: the first is best
        for label, i in best.items():
            if self._wanted and label not in self._wanted:
                continue
            seen = self._seen.get(label)
            if seen is None:
                seen = self._seen[label] = _Seen(now_ns, now_ns)
            seen.last_ns, seen.frames = now_ns, seen.frames + 1
            seen.score = max(seen.score, float(found.scores[i]))
            if not seen.told and seen.frames >= self._options.appear_frames:
                seen.told = True
                box = [round(value, 2) for value in found.xyxy[i].tolist()]
                self._tell("appear", label, frame, score=round(seen.score, 4), box=box)
        for label, seen in list(self._seen.items()):
            if abs(now_ns - seen.last_ns) > self._gone_ns:  # abs: a looped clip starts again
                self._leave(label, frame)
        self._last = replace(frame, pixels=_NO_PIXELS)

    def close(self) -> None:
        """What is in view leaves with the run."""
        if self._last is not None:
            for label in list(self._seen):
                self._leave(label, self._last)

    def _leave(self, label: str, frame: Frame) -> None:
        seen = self._seen.pop(label)
        if seen.told:
            seconds = round(max(0, seen.last_ns - seen.first_ns) / 1e9, 3)
            self._tell("disappear", label, frame, score=round(seen.score, 4), seconds=seconds)

    def _tell(
        self,
        kind: Literal["appear", "disappear"],
        label: str,
        frame: Frame,
        **more: Any,
    ) -> None:
        self._count += 1
        text = json.dumps(
            {
                "id": f"{self._run}-e{self._count}",
                "event": kind,
                "label": label,
                **self._source,
                "frame": frame.index,
                "media_ms": None if frame.media_ns is None else round(frame.media_ns / 1e6, 3),
                "time": self._line.time(frame.captured_ns),
                **more,
            },
            allow_nan=False,
        )
        notice = EventMessage(kind, label, text)
        for listener in self._listeners:
            listener(notice)


class TrackEventSink:
    """Tells ``listeners``, by the action that they are, of the events of tracks.

    One that a rule names (``ruled``) gets what the rules send it, others get every event.
    """

    def __init__(self, listeners: Mapping[str, Listener], ruled: Collection[str]) -> None:
        self._by_rule = {name: each for name, each in listeners.items() if name in ruled}
        self._always = [each for name, each in listeners.items() if name not in ruled]

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""

    def emit(self, result: Result) -> None:
        """Tell what the frame brought."""
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        for event in events if self._always else ():
            kind = _KINDS.get(event.type, "other")
            notice = EventMessage(kind, str(event.track_id), quoted(event.as_json()))
            for listener in self._always:
                listener(notice)
        for rule, then, event in fired:
            text = quoted({**event.as_json(), "rule": rule})
            for name in self._by_rule.keys() & set(then):
                self._by_rule[name](EventMessage("moment", str(event.track_id), text))

    def close(self) -> None:
        """Nothing to close."""


class EventLinesSink:
    """One JSON line an event of tracks to a file that others may share."""

    def __init__(self, file: LinesFile) -> None:
        self._file = file

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open the file; raises SinkError with the cure."""
        self._file.open()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""

    def emit(self, result: Result) -> None:
        """Write what the frame brought; raises SinkError, ReaderGone."""
        self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        for event in events:
            self._file.write(quoted(event.as_json()))

    def close(self) -> None:
        """Let go; every line has been written already."""
        self._file.close()
