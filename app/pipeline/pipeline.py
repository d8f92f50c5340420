"""The pipeline: capture, engines and sinks from start to end.

Three threads: ``capture`` reads the source, ``pipeline`` owns the backend and feeds the sinks, the
caller waits in ``wait``. The first error of any of them is kept, stops the others, and is raised
again by ``join``. Further sources (``more``) have a capture thread each, and share all else.
Source and engine may be swapped while it runs: the new one has a thread of its own, beside that of
the old one, until it takes over between two frames.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from ..core.credentials import mask_text
from ..core.errors import SinkError
from ..core.filters import DetectionFilter
from ..core.frame import SourceInfo
from ..core.interfaces import Analyser, BackendFactory, Canary, EngineKind, FrameSource, Sink
from ..core.states import WORKING, SourceStatus
from ..core.stats import Meter, PipelineStats
from .capture import SourceGroup, SourceStream, StreamSpec
from .degrade import DegradationPolicy
from .engine import JOIN_S, EngineGroup, EngineSpec, EngineWorker
from .handoff import Note, Policy, note_nothing
from .loop import WAIT_S
from .player import Opening, SourcePlayer
from .privacy import Privacy
from .sink_group import OnFault

log = logging.getLogger(__name__)


class Pipeline:
    """One run from sources to sinks. ``start``, ``wait``, ``join``; ``stop`` from anywhere.

    ``swap_source`` and ``swap_engine`` change what runs, ``tune`` its limits; from any thread.
    ``source`` and ``make_backend`` may be None, and are then swapped in. With ``stays`` the run
    goes on when an engine fails, and waits for another. ``on_fault`` hears of the faults of sinks,
    which then are no end of the run. ``grows``: sources are added. ``thresholds``: see EngineSpec;
    ``filter`` is the source's.
    """

    def __init__(
        self,
        source: FrameSource | None,
        make_backend: BackendFactory | None,
        sinks: Sequence[Sink],
        *,
        policy: Policy,
        labels: Sequence[str] = (),
        name: str = "",
        more: Sequence[StreamSpec] = (),
        max_age_ms: float | None = None,
        max_frames: int | None = None,
        stall_s: float = 15.0,
        canary: Canary | None = None,
        note: Note = note_nothing,
        analyser: Analyser | None = None,
        privacy: Privacy | None = None,
        filter: DetectionFilter | None = None,
        thresholds: tuple[float, float] = (0.0, 1.0),
        make_ladder: Callable[[Callable[[str], None]], DegradationPolicy] | None = None,
        stays: bool = False,
        on_fault: OnFault | None = None,
        grows: bool = False,
    ) -> None:
        self.labels, self._max_frames = labels, max_frames
        self._first = (
            None
            if make_backend is None
            else EngineSpec(make_backend, labels, *thresholds, canary, make_ladder)
        )
        self._meter = Meter()
        self._stop, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        specs = [StreamSpec(source, sinks, name, note, analyser, privacy, filter), *more]
        self._sources = SourceGroup(
            specs, policy, meter=self._meter, stall_s=stall_s, on_fault=on_fault, grows=grows
        )
        self._engines = engines = EngineGroup(
            self._sources,
            self._meter,
            stopped=self._stop.is_set,
            on_over=self._over,
            fail=self.fail,
            max_age_ms=max_age_ms,
            max_frames=max_frames,
            stays=stays,
        )
        self.swap_engine, self.cancel_swap = engines.start, engines.cancel
        self.tune, self.set_thresholds = engines.tune, engines.set_thresholds
        self.refilter = engines.refilter
        self.set_max_age = engines.set_max_age

    def start(self) -> None:
        """Start all threads; the sources open while the backend builds."""
        self._sources.start()
        first = self._first
        if first is not None:
            self._engines.start(lambda: first)

    def stop(self) -> None:
        """Ask for an orderly end; frames in flight are still delivered."""
        self._stop.set()
        self._sources.stop()

    @property
    def _streams(self) -> list[SourceStream]:
        return self._sources.streams

    def add(self, spec: StreamSpec) -> SourceStream:
        """Start another source while the run goes on, beside the first one. Any thread."""
        return self._engines.add(spec)

    def remove(self, stream: SourceStream) -> None:
        """End a source; what it gave is delivered, then its sinks are closed.

        Returns at once; ``has`` says when it is done. Any thread.
        """
        self._sources.leave(stream)

    def has(self, stream: SourceStream) -> bool:
        """Whether it is part of the run, with open sinks."""
        return stream in self._streams

    def removed(self, stream: SourceStream, timeout_s: float) -> bool:
        """Wait until it is closed with all its sinks; False in a run that ends, or out of time."""
        until_s = monotonic() + timeout_s
        while self.has(stream):
            if monotonic() > until_s or self._stop.wait(0.01):
                return False
        stream.join(until_s)
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Sources are exchanged: that none is left meanwhile is not the end of the run."""
        self._sources.held = True
        try:
            yield
        finally:
            self._sources.held = False
            self._sources.wake()

    def stream(self, name: str) -> SourceStream:
        return next(each for each in self._streams if each.name == name)

    def finish(self) -> None:
        """No more frames will come: what waits is delivered, and then the run is over."""
        self._sources.finish()
        if self.engine is None:
            self.stop()
            self._done.set()

    def swap_source(
        self,
        uri: str,
        make: Callable[[], Opening],
        *,
        loop: bool = False,
        browse: bool = False,
        number: int = 0,
    ) -> None:
        """Play this source from now on; the one before is closed, or left behind where it hangs.

        ``make`` is called on its thread, anew each time that it is opened. ``loop``: a recording
        begins again at its end; ``browse``: see SourcePlayer. ``number``: of the stream. Results
        carry on; sinks are told with the first of the new source.
        """
        stream = self._streams[number]
        stream.swap(
            lambda before: SourcePlayer(
                stream,
                uri,
                make,
                is_wanted=lambda: self.engine is not None,
                before=before,
                loop=loop,
                browse=browse,
            )
        )

    def player(self, number: int = 0) -> SourcePlayer | None:
        worker = self._streams[number].worker
        return worker if isinstance(worker, SourcePlayer) else None

    @property
    def engine(self) -> EngineWorker | None:
        return self._engines.current

    def info_of(self, index: int, number: int = 0) -> SourceInfo | None:
        """The source that this frame of a stream is from; any thread."""
        return self._streams[number].info_of(index)

    def fail(self, error: BaseException) -> None:
        """Keep the first error and stop."""
        with self._error_lock:
            if self._error is None:
                self._error = error
                self._meter.state_changed("failed", mask_text(str(error)))
            elif error is not self._error:
                log.debug("after the first error: %s", error)
        self.stop()

    @property
    def state(self) -> str:
        """As in ``stats``, without its figures; any thread."""
        state, built = self._meter.state, self._engines.last is not None
        return "building" if not built and state in (*WORKING, "ended") else state

    def status(self, name: str = "") -> SourceStatus:
        """How the source with this name is, the first one for ""; any thread, cheap."""
        streams = [each for each in self._streams if each.name == name] or self._streams
        return streams[0].status if streams else SourceStatus()

    @property
    def backend_description(self) -> str:
        """Engine, device and threads of what computes, or has done so last; "" before that."""
        return "" if self._engines.last is None else self._engines.last.description

    @property
    def backend_kind(self) -> EngineKind | None:
        return None if self._engines.last is None else self._engines.last.kind

    @property
    def backend_remarks(self) -> Sequence[str]:
        """What the last engine chose and measured; known once it has ended."""
        return () if self._engines.last is None else self._engines.last.remarks

    @property
    def faults(self) -> Sequence[BaseException]:
        return [fault for stream in self._streams for fault in stream.sinks.faults]

    def stats(self) -> PipelineStats:
        """A snapshot; any thread. The state is "building" while only the engine is awaited; its
        cause is then how far that is."""
        several = [each for each in self._streams if self._sources.several and each.name]
        sources = {each.name: each.meter.snapshot() for each in several}
        taken, state = self._meter.snapshot(), self.state
        cause = self._engines.building if state == "building" else taken.cause
        return replace(taken, state=state, cause=cause, sources=sources)

    def counts(self, number: int | None = None) -> PipelineStats:
        """Of all, or of one stream, without percentiles, at a fraction of the cost; any thread."""
        return (self._meter if number is None else self._streams[number].meter).counts()

    def wait(self, timeout_s: float = 0.1) -> bool:
        """Wait a little for the end; True when it has come. Watches for reads that never return."""
        if self._done.wait(timeout_s):
            return True
        self._sources.watch()
        return False

    def join(self, source_s: float = JOIN_S) -> PipelineStats:
        """Wait for all threads; raises the first error, else returns the final figures.

        After a stop the wait is bounded: what an output does not take in time is given up, and a
        source that takes longer than ``source_s`` to close is left behind.
        """
        while not self._stop.wait(WAIT_S):
            pass
        groups = [stream.sinks for stream in self._streams]
        if not self._engines.join(JOIN_S) and not any(sinks.is_busy for sinks in groups):
            log.warning("the engine does not return; leaving it behind")
        for sinks in groups:  # what no engine has closed
            if sinks.claim(threading.get_ident()):
                sinks.close(self.fail)
            else:
                self.fail(
                    SinkError(
                        f"not ended within {JOIN_S:g} s of the stop: an output does not take what "
                        "it is given; read it, or write to a file"
                    )
                )
        self._sources.join(source_s)
        if self._sources.error is not None and self._engines.taken != self._max_frames:
            raise self._sources.error
        if self._error is not None:
            raise self._error
        return self.stats()

    def _over(self) -> None:
        """On the thread of the last engine."""
        self._sources.abandon("stopped")
        self.stop()
        self._done.set()
