"""The pipeline: capture, slots and sinks from start to end.

Three threads: ``capture`` reads the source, ``pipeline`` owns the backend and feeds the sinks, the
caller waits in ``wait``. The first error of any of them is kept, stops the others, and is raised
again by ``join``. Further sources (``more``) have a capture thread each, and share all else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.errors import ReaderGone, SinkError
from ..core.interfaces import (
    GPU_ENGINES,
    Backend,
    BackendFactory,
    Canary,
    EngineKind,
    FrameSource,
    Sink,
    Slot,
    Tunable,
)
from ..core.stats import WORKING, Meter, PipelineStats
from .capture import Intake, Lane
from .degrade import Ladder
from .handoff import Note, Policy, note_nothing
from .loop import WAIT_S, Loop, Outlet

log = logging.getLogger(__name__)

JOIN_S = 2.0  # a thread stuck in a driver or an output is left behind after this


class Pipeline:
    """One run from sources to sinks. ``start``, ``wait``, ``join``; ``stop`` from anywhere."""

    def __init__(
        self,
        source: FrameSource,
        make_backend: BackendFactory,
        sinks: Sequence[Sink],
        *,
        labels: Sequence[str],
        policy: Policy,
        name: str = "",
        more: Sequence[Lane] = (),
        max_age_ms: float | None = None,
        max_frames: int | None = None,
        stall_s: float = 15.0,
        canary: Canary | None = None,
        note: Note = note_nothing,
        make_ladder: Callable[[Callable[[str], None]], Ladder] | None = None,
    ) -> None:
        self._backend: Backend | None = None
        self._make_backend, self.labels = make_backend, labels
        self._max_frames = max_frames
        self._meter = Meter()
        self._ladder = make_ladder(self._meter.noticed) if make_ladder else None
        self._stop, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        lanes = [Lane(source, sinks, name, note), *more]
        self._intake = Intake(lanes, policy, meter=self._meter, stop=self._stop, stall_s=stall_s)
        self._meters = [inlet.meter for inlet in self._intake.inlets]
        self._loop = Loop(
            self._intake,
            [Outlet(lane.sinks, self._meter) for lane in lanes],
            notes=[lane.note for lane in lanes],
            meters=self._meters,
            labels=labels,
            stopped=self._stop.is_set,
            max_age_ns=_ns(max_age_ms),
            max_frames=max_frames,
            canary=canary,
            ladder=self._ladder,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._built = False
        self._canary = canary
        self.backend_kind: EngineKind | None = None
        self.backend_description = ""
        self.backend_remarks: Sequence[str] = ()

    def start(self) -> None:
        """Start all threads; the sources open while the backend builds."""
        self._intake.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask for an orderly end; frames in flight are still delivered."""
        self._stop.set()
        self._intake.wake()

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: the engine cannot, or is not."""
        self._loop.set_max_age(_ns(max_age_ms))
        if self._ladder and max_age_ms is not None:
            self._ladder.set_budget(max_age_ms)
        backend: object = self._backend
        if not isinstance(backend, Tunable):
            return False
        backend.tune(score=score, iou=iou)
        return True

    def fail(self, error: BaseException) -> None:
        """Keep the first error and stop."""
        with self._error_lock:
            if self._error is None:
                self._error = error
                self._meter.state = "failed"
            else:
                log.debug("after the first error: %s", error)
        self.stop()

    @property
    def state(self) -> str:
        """As in ``stats``, without its figures; any thread."""
        state = self._meter.state
        return "building" if not self._built and state in WORKING else state

    def stats(self) -> PipelineStats:
        """A snapshot; any thread. The state is "building" while only the engine is awaited."""
        return replace(self._meter.snapshot(), state=self.state, sources=self._sources())

    def counts(self) -> PipelineStats:
        """The same without percentiles, at a fraction of the cost; any thread."""
        return self._meter.counts()

    def lane_stats(self) -> list[PipelineStats]:
        """Of each source, in order; stages are those of all together. Any thread."""
        return [meter.snapshot() for meter in self._meters]

    def _sources(self) -> dict[str, PipelineStats]:
        inlets = self._intake.inlets
        if len(inlets) == 1:
            return {}
        return {inlet.name: inlet.meter.snapshot() for inlet in inlets}

    def wait(self, timeout_s: float = 0.1) -> bool:
        """Wait a little for the end; True when it has come. Watches for reads that never return."""
        if self._done.wait(timeout_s):
            return True
        self._intake.watch()
        return False

    def join(self) -> PipelineStats:
        """Wait for both threads; raises the first error, else returns the final figures.

        After a stop the wait is bounded: what an output does not take in time is given up.
        """
        while self._thread.is_alive() and not self._stop.is_set():
            self._thread.join(WAIT_S)
        self._thread.join(JOIN_S)
        if self._thread.is_alive() and self._loop.in_sinks:
            self.fail(
                SinkError(
                    f"not ended within {JOIN_S:g} s of the stop: an output does not take what it "
                    "is given; read it, or write to a file"
                )
            )
        elif self._thread.is_alive():
            log.warning("the engine does not return; leaving it behind")
        self._intake.join(JOIN_S)
        if self._intake.error is not None and self._loop.taken != self._max_frames:
            raise self._intake.error
        if self._error is not None:
            raise self._error
        return self.stats()

    def _run(self) -> None:
        try:
            with self._make_backend(self._intake.wake) as backend:
                self.backend_description, self.backend_kind = backend.description, backend.kind
                if self._canary is not None:
                    self._canary.on_gpu = backend.kind in GPU_ENGINES
                self._built = True
                self._backend = backend
                log.info("engine %s", backend.description)
                if self._source_ready():
                    self._feed_sinks(backend.slots)
                self.backend_remarks = tuple(backend.remarks)
        except BaseException as error:
            self.fail(error)
        finally:
            self._backend = None
            self._intake.abandon("stopped")
            self.stop()
            self._done.set()

    def _source_ready(self) -> bool:
        while not self._intake.wait_open(WAIT_S):
            if self._stop.is_set() or self._intake.drained():
                return self._intake.wait_open(0)
        return True

    def _feed_sinks(self, slots: Sequence[Slot]) -> None:
        """Open the sinks, process, close them; of several errors the first is kept."""
        try:
            self._loop.open_outlets()
            self._loop.run(slots)
        except ReaderGone as gone:
            log.info("%s: stopped", gone)
        except BaseException as error:
            self.fail(error)
        self._loop.close_outlets(self.fail)


def _ns(ms: float | None) -> int | None:
    return None if ms is None else int(ms * 1e6)
