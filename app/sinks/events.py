"""Events of tracks and sources for listeners and files."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.detections import Result
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.interfaces import Sink, Updatable
from ..core.stats import OutputMeter
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


class MessageQueue:
    """Messages from any thread, handled one after the other by ``handle`` on a thread of its own.

    What a full queue has no room for is dropped, oldest first, and counted in ``meter``.
    """

    def __init__(
        self, name: str, *, capacity: int, meter: OutputMeter, handle: Listener, stop_s: float
    ) -> None:
        """``stop_s``: how long ``stop`` waits for what is under way."""
        self._capacity, self._meter, self._handle, self._stop_s = capacity, meter, handle, stop_s
        self._waiting: deque[EventMessage] = deque()
        self._changed = threading.Condition()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"output-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, message: EventMessage) -> None:
        """Take one message; never waits."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._meter.dropped("queue full")
            self._waiting.append(message)
            self._meter.waiting = len(self._waiting)
            self._changed.notify()

    def stop(self) -> None:
        """Give what waits a moment, then count it as lost."""
        self.stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(self._stop_s)
        with self._changed:
            under_way = int(self._thread.is_alive())
            self._meter.dropped("stopped", len(self._waiting) + under_way)
            self._waiting.clear()
            self._meter.waiting = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self.stopping.is_set())
                if not self._waiting:
                    return
                message = self._waiting.popleft()
                self._meter.waiting = len(self._waiting)
            self._handle(message)


class EventsOnlySink(Sink, Updatable):
    """A sink that cares for events alone: what is common to those whose work is ``happened``."""

    def emit(self, result: Result) -> None:
        if result.events or result.fired:
            self.happened(result.events, result.fired)

    @abstractmethod
    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """Take the events of a frame, at least one, and the rules that fired."""


class TrackEventSink(EventsOnlySink):
    """Tells ``listeners``, by the action that they are, of the events of tracks.

    One that a rule names (``ruled``) gets what the rules send it, others get every event.
    """

    def __init__(self, listeners: Mapping[str, Listener], ruled: Collection[str]) -> None:
        self._listeners, self._ruled = dict(listeners), set(ruled) & set(listeners)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
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


class EventLinesSink(EventsOnlySink):
    """One JSON line an event of tracks to a file that others may share."""

    def __init__(self, file: LinesFile) -> None:
        self._file = file

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._file.open()

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        """See interfaces.TakesEvents; raises SinkError, ReaderGone."""
        for event in events:
            self._file.write(quoted(event.as_json()))

    def close(self) -> None:
        self._file.close()
