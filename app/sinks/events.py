"""Events of tracks and sources for listeners and files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.detections import Result
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from .json_lines import LinesFile, quoted

Kind = Literal["appear", "disappear", "moment", "other"]
_KINDS: dict[str, Kind] = {"appear": "appear", "gone": "disappear"}


@dataclass(frozen=True, slots=True)
class EventMessage:
    """What a listener is told of an event; ``text`` is its JSON object, with an id of its own.

    ``subject``: the track that comes into view or leaves it. A "moment" is worth a clip whatever is
    in view; "other" is not. ``rule``: the one that sends it, "" if none does.
    """

    kind: Kind
    subject: str
    text: str
    event: Event | None = None
    rule: str = ""


Listener = Callable[[EventMessage], None]


class TrackEventSink:
    """Tells ``listeners``, by the action that they are, of the events of tracks.

    One that a rule names (``ruled``) gets what the rules send it, others get every event.
    """

    def __init__(self, listeners: Mapping[str, Listener], ruled: Collection[str]) -> None:
        self._listeners, self._ruled = dict(listeners), set(ruled) & set(listeners)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Nothing to open."""

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""

    def emit(self, result: Result) -> None:
        """Tell what the frame brought."""
        if result.events or result.fired:
            self.happened(result.events, result.fired)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents."""
        for event in events:
            kind = _KINDS.get(event.type, "other")
            notice = EventMessage(kind, str(event.track_id), quoted(event.as_json()), event)
            for name, listener in self._listeners.items():
                if name not in self._ruled:
                    listener(notice)
        for rule, then, event in fired:
            text = quoted({**event.as_json(), "rule": rule})
            for name in self._ruled & set(then):
                self._listeners[name](
                    EventMessage("moment", str(event.track_id), text, event, rule)
                )

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
