"""Engines of a run: one computes, another may be built beside it and take its turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from ..core.building import Build, Unwanted
from ..core.errors import ReaderGone
from ..core.filters import BaseThresholds
from ..core.interfaces import GPU_ENGINES, Backend, BackendFactory, Canary, EngineKind, Tunable
from ..core.stats import Meter
from .capture import SourceGroup, SourceStream, StreamSpec
from .degrade import DegradationPolicy
from .loop import WAIT_S, Loop
from .sink_group import SinkGroup, Superseded

log = logging.getLogger(__name__)

JOIN_S = 2.0  # a thread stuck in a driver or an output is left behind after this
LOOK_S = 0.05  # how often a built engine looks whether its turn has come


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A model on an engine: how it is built, and what belongs to it.

    ``score``, ``iou``: the thresholds of what no filter says otherwise.
    """

    factory: BackendFactory
    labels: Sequence[str]
    score: float = 0.0
    iou: float = 1.0
    canary: Canary | None = None
    make_ladder: Callable[[Callable[[str], None]], DegradationPolicy] | None = None


class EngineWorker(threading.Thread):
    """One engine on a thread of its own, from its preparation to its end.

    A backend is entered, used and left on one thread; so the pipeline's thread changes with it.
    ``error`` is what ended it, known once ``is_alive`` is false.
    """

    def __init__(
        self,
        prepare: Callable[[], EngineSpec],
        work: Callable[[EngineWorker], None],
        on_turn: Callable[[EngineWorker], None],
    ) -> None:
        super().__init__(name="pipeline", daemon=True)
        self.prepare, self.on_turn, self._work = prepare, on_turn, work
        self.spec: EngineSpec | None = None
        self.backend: Backend | None = None
        self.loop: Loop | None = None
        self.policy: DegradationPolicy | None = None
        self.error: BaseException | None = None
        self.kind: EngineKind | None = None
        self.description = ""
        self.remarks: Sequence[str] = ()
        self.turn = threading.Event()  # set once it may compute
        self.build = Build()

    def run(self) -> None:
        self._work(self)


class EngineGroup:
    """Lets engines take turns between two frames.

    The new engine is built while the old one goes on. Once it is up, the old one delivers what it
    has in flight and passes the turn; one that does not within ``JOIN_S`` is left behind, and what
    it still finds is dropped. With ``stays`` an engine that fails is not the end of the run: the
    group waits for another. ``on_over``: the run has come to its end, by itself or by a stop.
    """

    def __init__(
        self,
        sources: SourceGroup,
        meter: Meter,
        *,
        stopped: Callable[[], bool],
        on_over: Callable[[], None],
        fail: Callable[[BaseException], None],
        max_age_ms: float | None,
        max_frames: int | None,
        stays: bool,
    ) -> None:
        self._sources, self._meter = sources, meter
        self._stopped, self._on_over, self._fail = stopped, on_over, fail
        self._max_age_ms, self._max_frames, self._stays = max_age_ms, max_frames, stays
        self._lock = threading.Lock()
        self._workers: list[EngineWorker] = []
        self._next: EngineWorker | None = None
        self._taken_before = 0
        self._refiltered = False  # since the engines were configured
        self._base = BaseThresholds(0.0, 1.0, 0.0)
        self.current: EngineWorker | None = None
        self.last: EngineWorker | None = None  # that had a turn

    @property
    def _sinks(self) -> list[SinkGroup]:
        return [stream.sinks for stream in self._sources.streams]

    @property
    def taken(self) -> int:
        current = self.current
        loop = None if current is None else current.loop
        return self._taken_before + (0 if loop is None else loop.taken)

    @property
    def building(self) -> str:
        """What is being done for the engine that is built, where that takes long; any thread."""
        worker = self._next
        return "" if worker is None else worker.build.text

    def start(
        self,
        prepare: Callable[[], EngineSpec],
        on_turn: Callable[[EngineWorker], None] = lambda worker: None,
    ) -> EngineWorker:
        """Build this engine, which then takes its turn; one that is being built is given up.

        ``prepare`` and ``on_turn`` are called on its thread, the latter before its first frame.
        """
        worker = EngineWorker(prepare, self._run, on_turn)
        worker.build = Build(lambda: worker in (self._next, self.current) and not self._stopped())
        with self._lock:
            self._workers = [*(each for each in self._workers if each.is_alive()), worker]
            self._next = worker
            worker.start()
        return worker

    def add(self, spec: StreamSpec) -> SourceStream:
        """Another source; whichever engine computes then feeds its sinks, too. Any thread."""
        with self._lock:
            owner = self.current
            stream = self._sources.add(
                spec, owner=None if owner is None else owner.ident, base=self._base
            )
        self.refilter()  # the engine reports what its filter needs
        return stream

    def cancel(self) -> None:
        with self._lock:
            self._next = None

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: the engine cannot, or is not."""
        tuned = self.set_thresholds(score=score, iou=iou)
        if tuned:
            self.set_max_age(max_age_ms)
        return tuned

    def set_max_age(self, max_age_ms: float | None) -> None:
        """Of this engine and those that follow; any thread."""
        self._max_age_ms, engine = max_age_ms, self.current
        if engine is not None and engine.loop is not None:
            engine.loop.set_max_age(_ns(max_age_ms))
        if engine is not None and engine.policy is not None and max_age_ms is not None:
            engine.policy.set_budget(max_age_ms)

    def set_thresholds(self, *, score: float, iou: float) -> bool:
        """From the next frame on; any thread. False: the engine cannot, or is not."""
        engine = self.current
        backend: object = None if engine is None else engine.backend
        if engine is None or not isinstance(backend, Tunable):
            return False
        score = self._set_base(score, iou)
        backend.tune(score=score, iou=iou)
        if engine.spec is not None and engine.spec.canary is not None:
            engine.spec.canary.tune(score=score, iou=iou)
        return True

    def refilter(self) -> None:
        """Filters of streams were replaced: the engine reports what they need; any thread."""
        self._refiltered = True
        self.set_thresholds(score=self._base.score, iou=self._base.iou)

    def _set_base(self, score: float, iou: float) -> float:
        """Thresholds of what no filter says otherwise; the lowest that the engine must report."""
        lowest = min((sink.lowest(score) for sink in self._sinks), default=score)
        self._base = BaseThresholds(score, iou, lowest)
        for sink in self._sinks:
            sink.filter.base = self._base
        return lowest

    def _passes(self, worker: EngineWorker) -> bool:
        """Whether its loop is to end: there is a successor, or the run was stopped.

        Raises Superseded on the thread of an engine that has not ended in time.
        """
        if worker is not self.current:
            if threading.current_thread() is worker:
                raise Superseded
            return True
        return self._stopped() or self._successor() is not None

    def join(self, timeout_s: float) -> bool:
        """After a stop: wait for all engines together; False if one does not return.

        One that is still being prepared, such as by fetching weights, is not waited for.
        """
        until_s = monotonic() + timeout_s
        with self._lock:
            workers = [worker for worker in self._workers if worker.spec is not None]
        for worker in workers:
            worker.join(max(0.0, until_s - monotonic()))
        return not any(worker.is_alive() for worker in workers)

    def _run(self, worker: EngineWorker) -> None:
        """All of an engine's life; on its own thread."""
        is_over = False
        worker.build.take_thread()
        try:
            spec = worker.prepare()
            if worker is self._next and not self._stopped():
                worker.spec = spec
                with spec.factory(self._sources.wake) as backend:
                    worker.backend, worker.kind = backend, backend.kind
                    worker.description = backend.description
                    log.info("engine %s", backend.description)
                    if spec.canary is not None:
                        spec.canary.on_gpu = backend.kind in GPU_ENGINES
                    if self._await_turn(worker):
                        is_over = self._compute(worker, spec, backend)
                    worker.remarks = tuple(backend.remarks)
        except Superseded:
            log.debug("engine %s: it was left behind", worker.description)
        except Unwanted as given_up:
            log.info("%s", given_up)
        except BaseException as error:
            worker.error = worker.error or error  # what a backend says on its way out comes second
        finally:
            worker.backend = None
            self._ended(worker, is_over)

    def _await_turn(self, worker: EngineWorker) -> bool:
        """Whether its turn has come; False if it is no longer wanted."""
        late_s = monotonic() + JOIN_S
        while not worker.turn.is_set():
            with self._lock:
                if worker is not self._next or self._stopped():
                    return worker.turn.is_set()
                late = monotonic() > late_s and not any(sink.is_busy for sink in self._sinks)
                if self.current is None or late:
                    self._hand_turn_to(worker)
            self._sources.wake()  # the loop of the present one looks whether it has a successor
            worker.turn.wait(LOOK_S)
        return True

    def _hand_turn_to(self, worker: EngineWorker) -> None:
        if all(sink.claim(worker.ident) for sink in self._sinks):
            self._count_taken()
            self.current, self.last, self._next = worker, worker, None
            worker.turn.set()

    def _count_taken(self) -> None:
        self._taken_before = self.taken
        self.current = None

    def _successor(self) -> EngineWorker | None:
        worker = self._next
        return worker if worker is not None and worker.backend is not None else None

    def _compute(self, worker: EngineWorker, spec: EngineSpec, backend: Backend) -> bool:
        """Until another has the turn; True if the run is over, and then the sinks are closed."""
        try:
            worker.on_turn(worker)
            loop = worker.loop = self._make_loop(worker, spec)
            for sink in self._sinks:
                sink.relabel(spec.labels)
            self._set_base(spec.score, spec.iou)
            if self._refiltered:
                self.refilter()
            while True:
                if self._source_ready():
                    loop.open_sinks()
                    loop.run(backend.slots)
                with self._lock:
                    successor = self._successor()
                    if successor is not None and not self._is_over():
                        self._hand_turn_to(successor)
                if worker is not self.current:
                    return False
                if self._is_over():
                    break
        except ReaderGone as gone:
            log.info("%s: stopped", gone)
        except Superseded:
            raise
        except BaseException as error:
            worker.error = error
            if self._stays or worker is not self.current:
                return False
            self._fail(error)
        for sink in self._sinks:
            sink.close(self._fail)
        return True

    def _make_loop(self, worker: EngineWorker, spec: EngineSpec) -> Loop:
        if spec.make_ladder is not None:
            worker.policy = spec.make_ladder(self._meter.noticed)
            if self._max_age_ms is not None:
                worker.policy.set_budget(self._max_age_ms)
        return Loop(
            self._sources,
            labels=spec.labels,
            stopped=lambda: self._passes(worker),
            max_age_ns=_ns(self._max_age_ms),
            max_frames=None if self._max_frames is None else self._max_frames - self.taken,
            canary=spec.canary,
            ladder=worker.policy,
            fail=self._fail,
        )

    def _is_over(self) -> bool:
        return self._stopped() or self._sources.drained() or self.taken == self._max_frames

    def _source_ready(self) -> bool:
        while not self._sources.wait_open(WAIT_S):
            if self._stopped() or self._sources.drained() or self._successor() is not None:
                return self._sources.wait_open(0)
            self._sources.retire(set(), self._fail)
        return True

    def _ended(self, worker: EngineWorker, is_over: bool) -> None:
        with self._lock:
            had_turn = worker is self.current
            if had_turn:
                self._count_taken()
            if worker is self._next:
                self._next = None
            if self.current is None and (self._stopped() or (worker.error and not self._stays)):
                is_over = True
        if is_over:
            if worker.error is not None and not self._stays:
                self._fail(worker.error)
            self._on_over()
        elif had_turn:
            self._sources.clear("stopped")  # it would be old when there is an engine again


def _ns(ms: float | None) -> int | None:
    return None if ms is None else int(ms * 1e6)
