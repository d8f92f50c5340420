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
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.errors import SinkError
from ..core.frame import SourceInfo
from ..core.interfaces import BackendFactory, Canary, FrameSource, Sink, Tunable
from ..core.stats import Meter, PipelineStats
from .capture import SourceGroup, StreamSpec
from .degrade import DegradationPolicy
from .engine import JOIN_S, EngineGroup, EngineSpec, EngineWorker
from .handoff import Note, Policy, note_nothing
from .loop import WAIT_S, Loop
from .player import Opening, SourcePlayer
from .sink_group import OnFault, SinkGroup

log = logging.getLogger(__name__)


class Pipeline:
    """One run from sources to sinks. ``start``, ``wait``, ``join``; ``stop`` from anywhere.

    ``source`` and ``make_backend`` may be None, and are then swapped in. With ``stays`` the run
    goes on when an engine fails, and waits for another. ``on_fault`` hears of the faults of sinks,
    which then are no end of the run.
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
        make_ladder: Callable[[Callable[[str], None]], DegradationPolicy] | None = None,
        stays: bool = False,
        on_fault: OnFault | None = None,
    ) -> None:
        self.labels, self._max_frames, self._max_age_ms = labels, max_frames, max_age_ms
        self._first = (
            None
            if make_backend is None
            else EngineSpec(make_backend, labels, canary=canary, make_ladder=make_ladder)
        )
        self._meter = Meter()
        self._stop, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        specs = [StreamSpec(source, sinks, name, note), *more]
        self._sources = SourceGroup(specs, policy, meter=self._meter, stall_s=stall_s)
        streams = self._sources.streams
        self._meters, self._notes = [each.meter for each in streams], [each.note for each in specs]
        self._sinks = [
            SinkGroup(spec.sinks, self._meter, info_of=stream.info_of, on_fault=on_fault)
            for spec, stream in zip(specs, streams, strict=True)
        ]
        self._engines = EngineGroup(
            self._make_loop,
            self._sources,
            self._sinks,
            stopped=self._stop.is_set,
            on_over=self._over,
            fail=self.fail,
            max_frames=max_frames,
            stays=stays,
        )

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

    def finish(self) -> None:
        """No more frames will come: what waits is delivered, and then the run is over."""
        self._sources.finish()
        if self.engine is None:
            self.stop()
            self._done.set()

    def swap_source(self, uri: str, make: Callable[[], Opening], *, loop: bool = False) -> None:
        """Play this source from now on; the one before is closed, or left behind where it hangs.

        ``make`` is called on its thread, anew each time that it is opened. ``loop``: a recording
        begins again at its end. Results carry on; sinks are told with the first of the new source.
        """
        stream = self._sources.streams[0]
        stream.swap(
            lambda before: SourcePlayer(
                stream,
                uri,
                make,
                is_wanted=lambda: self.engine is not None,
                before=before,
                loop=loop,
            )
        )

    def swap_engine(
        self,
        prepare: Callable[[], EngineSpec],
        on_turn: Callable[[EngineWorker], None] = lambda worker: None,
    ) -> EngineWorker:
        """Build this engine beside the present one; it takes over between two frames.

        See EngineGroup.start.
        """
        return self._engines.start(prepare, on_turn)

    def cancel_swap(self) -> None:
        """Give up the engine that is being built."""
        self._engines.cancel()

    @property
    def source(self) -> SourcePlayer | None:
        """What is played, where a source was swapped in."""
        worker = self._sources.streams[0].worker
        return worker if isinstance(worker, SourcePlayer) else None

    @property
    def engine(self) -> EngineWorker | None:
        """What computes; None while none does."""
        return self._engines.current

    def info_of(self, index: int) -> SourceInfo | None:
        """The source that this frame of the first stream is from; any thread."""
        return self._sources.streams[0].info_of(index)

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: the engine cannot, or is not."""
        self.set_max_age(max_age_ms)
        return self.set_thresholds(score=score, iou=iou)

    def set_thresholds(self, *, score: float, iou: float) -> bool:
        """From the next frame on; any thread. False: the engine cannot, or is not."""
        backend: object = None if self.engine is None else self.engine.backend
        if not isinstance(backend, Tunable):
            return False
        backend.tune(score=score, iou=iou)
        return True

    def set_max_age(self, max_age_ms: float | None) -> None:
        """Another limit of age for this engine and those that follow; any thread."""
        self._max_age_ms, engine = max_age_ms, self.engine
        if engine is not None and engine.loop is not None:
            engine.loop.set_max_age(_ns(max_age_ms))
        if engine is not None and engine.policy is not None and max_age_ms is not None:
            engine.policy.set_budget(max_age_ms)

    def fail(self, error: BaseException) -> None:
        """Keep the first error and stop."""
        with self._error_lock:
            if self._error is None:
                self._error = error
                self._meter.state = "failed"
            elif error is not self._error:
                log.debug("after the first error: %s", error)
        self.stop()

    @property
    def state(self) -> str:
        """As in ``stats``, without its figures; any thread."""
        state, built = self._meter.state, self._engines.last is not None
        return "building" if not built and state in ("live", "replay") else state

    @property
    def backend_description(self) -> str:
        """Engine, device and threads of what computes, or has done so last; "" before that."""
        return "" if self._engines.last is None else self._engines.last.description

    @property
    def backend_remarks(self) -> Sequence[str]:
        """What the last engine chose and measured; known once it has ended."""
        return () if self._engines.last is None else self._engines.last.remarks

    @property
    def faults(self) -> Sequence[BaseException]:
        """Of sinks, where they are no end of the run."""
        return [fault for sinks in self._sinks for fault in sinks.faults]

    def stats(self) -> PipelineStats:
        """A snapshot; any thread. The state is "building" while only the engine is awaited."""
        return replace(self._meter.snapshot(), state=self.state, sources=self._sources_stats())

    def counts(self) -> PipelineStats:
        """The same without percentiles, at a fraction of the cost; any thread."""
        return self._meter.counts()

    def lane_stats(self) -> list[PipelineStats]:
        """Of each source, in order; stages are those of all together. Any thread."""
        return [meter.snapshot() for meter in self._meters]

    def _sources_stats(self) -> dict[str, PipelineStats]:
        streams = self._sources.streams
        return {each.name: each.meter.snapshot() for each in streams} if len(streams) > 1 else {}

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
        if not self._engines.join(JOIN_S) and not any(sinks.is_busy for sinks in self._sinks):
            log.warning("the engine does not return; leaving it behind")
        for sinks in self._sinks:  # those that no engine has closed
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

    def _make_loop(self, engine: EngineWorker, spec: EngineSpec) -> Loop:
        if spec.make_ladder is not None:
            engine.policy = spec.make_ladder(self._meter.noticed)
            if self._max_age_ms is not None:
                engine.policy.set_budget(self._max_age_ms)
        left = None if self._max_frames is None else self._max_frames - self._engines.taken
        return Loop(
            self._sources,
            self._sinks,
            notes=self._notes,
            meters=self._meters,
            labels=spec.labels,
            stopped=lambda: self._engines.passes(engine),
            max_age_ns=_ns(self._max_age_ms),
            max_frames=left,
            canary=spec.canary,
            ladder=engine.policy,
        )


def _ns(ms: float | None) -> int | None:
    return None if ms is None else int(ms * 1e6)
