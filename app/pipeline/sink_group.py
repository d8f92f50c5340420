"""The sinks of one stream: opened once, told of changes, closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock, get_ident
from time import monotonic_ns

from ..core.detections import Result
from ..core.errors import KestrelError
from ..core.events import Event, Fired
from ..core.filters import DetectionFilter
from ..core.frame import SourceInfo
from ..core.interfaces import Analyser, Sink, TakesEvents, Updatable
from ..core.states import OVER, SourceStatus
from ..core.stats import Meter
from .privacy import Privacy

CLAIM_S = 0.1  # a sink that holds its results for longer is stuck
OnFault = Callable[[KestrelError], None]
Lease = Callable[[], int | None]


class Superseded(Exception):
    """The engine of the calling thread is no longer the one that feeds the sinks."""


class SinkGroup:
    """Passes results on. Used on the thread of the engine that feeds it, its owner.

    The sinks stay open when another source or model takes over: they are told of it, or, where
    they are not Updatable, closed and opened again. A sink's fault is raised; with ``on_fault`` the
    sink is closed instead, the fault is kept in ``faults`` and told, and the others go on.
    ``privacy`` hides faces first, ``filter`` comes next. ``analyser`` sees each result before the
    sinks, and they see what it makes of it; at the end it hears the source's ``status``.
    ``lease`` gives the number by which a fleet's node may deliver, which goes with all results and
    events; while it gives None nothing is delivered, and ``on_fenced`` is called.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        meter: Meter,
        *,
        info_of: Callable[[int], SourceInfo | None],
        on_fault: OnFault | None = None,
        analyser: Analyser | None = None,
        filter: DetectionFilter | None = None,
        status: Callable[[], SourceStatus] = SourceStatus,
        privacy: Privacy | None = None,
        lease: Lease | None = None,
        on_fenced: Callable[[], None] = lambda: None,
    ) -> None:
        self._lease, self._on_fenced = lease, on_fenced
        self.analyser, self._status, self._privacy = analyser, status, privacy
        self.filter = filter or DetectionFilter()
        self._sinks, self._meter, self._info_of = list(sinks), meter, info_of
        self._on_fault = on_fault
        self._open: list[Sink] = []
        self._source: SourceInfo | None = None
        self._labels: Sequence[str] = ()
        self._lock = Lock()  # held while a sink is at work
        self._owner: int | None = None
        self.faults: list[KestrelError] = []

    def lowest(self, score: float) -> float:
        """What the engine must report for it, where ``score`` is that of what is not filtered."""
        lowest = self.filter.filters.lowest(score)
        return lowest if self._privacy is None else self._privacy.lowest(lowest)

    @property
    def is_open(self) -> bool:
        """Whether it was opened; it stays so when it is closed."""
        return self._source is not None

    @property
    def is_busy(self) -> bool:
        """Whether a sink is at work at this moment; any thread."""
        return self._lock.locked()

    def claim(self, owner: int | None) -> bool:
        """Let the thread with this identity feed the sinks from now on, and no other.

        False if a sink is at work. Any thread.
        """
        if not self._lock.acquire(timeout=CLAIM_S):
            return False
        self._owner = owner
        self._lock.release()
        return True

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open the sinks in order, or tell them what is new."""

        def renew(sink: Sink) -> None:
            if isinstance(sink, Updatable):
                sink.update(source, labels)
            else:
                sink.close()
                sink.open(source, labels)

        def begin(sink: Sink) -> None:
            self._open.append(sink)
            sink.open(source, labels)

        self._check_owner()
        do = begin if self._source is None else renew
        self._source, self._labels = source, labels
        self.filter.labels = labels
        if self.analyser is not None:
            self.analyser.open(source, labels)
        self._each(do)

    def relabel(self, labels: Sequence[str]) -> None:
        """Another engine computes, perhaps with another model: tell the sinks that are open."""
        if self._source is not None:
            self.open(self._source, labels)

    def emit(self, result: Result) -> None:
        """Hand the result to each sink; of a change of its source they are told before."""
        source = self._info_of(result.frame.index)
        if source is not None and source is not self._source:
            self.open(source, self._labels)
        started_ns = monotonic_ns()
        if self._privacy is not None:
            result = self._privacy.hide_faces(result, self._labels)
        result = self.filter(result)
        number = None if self._lease is None else self._lease()
        if self._lease is not None and number is None:
            self._on_fenced()
            return
        if self.analyser is not None:
            self._check_owner()
            result = self.analyser.update(result)
        if number is not None:
            events, fired = _leased(number, result.events, result.fired)
            result = replace(result, lease=number, events=events, fired=fired)
        self._each(lambda sink: sink.emit(result))
        self._meter.emitted(monotonic_ns() - started_ns)

    def follow(self, *, seen_all: bool) -> None:
        """Tell the analyser how the source is, and the sinks what follows from that.

        ``seen_all``: all frames that it has given have come here; its end is told only then.
        """
        status = self._status()
        if self.analyser is not None and self.is_open and (seen_all or status.state not in OVER):
            self._check_owner()
            events, fired = self._allowed(*self.analyser.follow(status))
            if events or fired:
                self._each(lambda sink: _tell(sink, events, fired))

    def close(self, on_error: Callable[[BaseException], None]) -> None:
        """Close what was opened, in reverse, each whatever the others do; idempotent."""
        with self._lock:
            self._check_owner()
            events: Sequence[Event] = ()
            fired: Sequence[Fired] = ()
            if self.analyser is not None and self._open:
                events, fired = self._allowed(*self.analyser.end(self._status()))
            while self._open:
                sink = self._open.pop()
                try:
                    try:
                        _tell(sink, events, fired)
                    finally:
                        sink.close()
                except BaseException as error:
                    if self._on_fault is None or not isinstance(error, KestrelError):
                        on_error(error)
                    else:
                        self.faults.append(error)
                        self._on_fault(error)

    def _allowed(self, events: Sequence[Event], fired: Sequence[Fired]) -> Happened:
        if self._lease is None or not (events or fired):
            return events, fired
        number = self._lease()
        return ((), ()) if number is None else _leased(number, events, fired)

    def _check_owner(self) -> None:
        if self._owner is not None and self._owner != get_ident():
            raise Superseded

    def _each(self, do: Callable[[Sink], None]) -> None:
        with self._lock:
            self._check_owner()
            for sink in tuple(self._sinks):
                try:
                    do(sink)
                except KestrelError as error:
                    if self._on_fault is None:
                        raise
                    self._sinks.remove(sink)
                    self._open.remove(sink)
                    with suppress(KestrelError):  # the first fault is told
                        sink.close()
                    self.faults.append(error)
                    self._on_fault(error)


Happened = tuple[Sequence[Event], Sequence[Fired]]


def _leased(number: int, events: Sequence[Event], fired: Sequence[Fired]) -> Happened:
    """The same with the number of the lease."""
    return (
        [replace(event, lease=number) for event in events],
        [each._replace(event=replace(each.event, lease=number)) for each in fired],
    )


def _tell(sink: Sink, events: Sequence[Event], fired: Sequence[Fired]) -> None:
    if (events or fired) and isinstance(sink, TakesEvents):
        sink.happened(events, fired)
