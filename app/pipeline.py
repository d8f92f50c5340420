"""The pipeline: how do capture, slots and sinks work together, and how does a run end?

Three threads: ``capture`` reads the source, ``pipeline`` owns the backend and feeds the sinks, the
caller waits in ``wait``. The first error of any of them is kept, stops the others, and is raised
again by ``join``. Further sources (``more``) have a capture thread each, and share all else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic_ns
from typing import NamedTuple, cast

from app.delivery import Outlet
from app.detections import Result
from app.errors import ReaderGone, SinkError
from app.frame import Frame
from app.gather import Gather
from app.handoff import Note, Policy, is_stale, note_nothing
from app.intake import Intake, Lane
from app.interfaces import (
    Backend,
    BackendFactory,
    BatchSlot,
    Canary,
    FrameSource,
    Sink,
    Slot,
    Tunable,
)
from app.ladder import Ladder
from app.stats import Meter, PipelineStats

log = logging.getLogger(__name__)

WAIT_S = 0.2  # longest sleep of the pipeline thread; it is woken earlier by frames and slots
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
        self._canary = canary
        self._backend: Backend | None = None
        self._make_backend, self.labels = make_backend, labels
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * 1e6)
        self._max_frames = max_frames
        self._meter = Meter()
        self._ladder = make_ladder(self._meter.noticed) if make_ladder else None
        self._stop, self._done = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._taken = 0
        self._in_sinks = False
        self._error_lock = threading.Lock()
        lanes = [Lane(source, sinks, name, note), *more]
        self._notes = [lane.note for lane in lanes]
        self._intake = Intake(lanes, policy, meter=self._meter, stop=self._stop, stall_s=stall_s)
        self._meters = [inlet.meter for inlet in self._intake.inlets]
        self._outlets = [Outlet(lane.sinks, self._meter) for lane in lanes]
        self._gather: Gather | None = None
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._built = False
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
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * 1e6)
        if self._gather:
            self._gather.budget_ns = self._max_age_ns
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
        return "building" if not self._built and state in ("live", "replay") else state

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
        if self._thread.is_alive() and self._in_sinks:
            self.fail(
                SinkError(
                    f"not ended within {JOIN_S:g} s of the stop: an output does not take what it "
                    "is given; read it, or write to a file"
                )
            )
        elif self._thread.is_alive():
            log.warning("the engine does not return; leaving it behind")
        self._intake.join(JOIN_S)
        if self._intake.error is not None and self._taken != self._max_frames:
            raise self._intake.error
        if self._error is not None:
            raise self._error
        return self.stats()

    def _run(self) -> None:
        try:
            with self._make_backend(self._intake.wake) as backend:
                self.backend_description = backend.description
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
            self._open_outlets()
            self._process(slots)
        except ReaderGone as gone:
            log.info("%s: stopped", gone)
        except BaseException as error:
            self.fail(error)
        self._in_sinks = True
        for outlet in self._outlets:
            outlet.close(self.fail)
        self._in_sinks = False

    def _open_outlets(self) -> None:
        """Of those sources that have opened meanwhile."""
        self._in_sinks = True
        for outlet, inlet in zip(self._outlets, self._intake.inlets, strict=True):
            if inlet.info is not None and not outlet.is_open:
                outlet.open(inlet.info, self.labels)
        self._in_sinks = False

    def _process(self, slots: Sequence[Slot]) -> None:
        """Keep every slot busy, deliver in order, until the sources are drained or a stop."""
        if isinstance(slots[0], BatchSlot):
            self._gather = Gather(slots[0].capacity, budget_ns=self._max_age_ns)
        idle: deque[Slot] = deque(slots)
        busy: deque[_Work] = deque()
        try:
            self._keep_busy(idle, busy)
        finally:
            for _, frames, _ in busy:  # an error or a reader that left: never to reach the sinks
                for frame in frames:
                    if frame.index >= 0:
                        self._meters[frame.lane].dropped("stopped")

    def _keep_busy(self, idle: deque[Slot], busy: deque[_Work]) -> None:
        while True:
            if busy and busy[0].slot.ready():
                results = self._collect(busy[0])
                idle.append(busy.popleft().slot)
                for result in results:
                    self._emit(result)
                continue
            enough = self._taken == self._max_frames
            ended = self._stop.is_set() or enough or self._intake.drained()
            if ended and not busy:
                return
            wants_frame = bool(idle) and not ended
            hold_ns = self._hold_ns() if wants_frame else 0
            frames = self._next_frames() if wants_frame and not hold_ns else ()
            if frames:
                busy.append(_Work(idle.popleft(), frames, monotonic_ns()))
                self._enqueue(busy[-1])
                continue
            self._intake.wait(
                frames=0 if not wants_frame else self._batch if hold_ns else 1,
                until=busy[0].slot.ready if busy else self._stop.is_set,
                timeout_s=hold_ns / 1e9 if hold_ns else WAIT_S,
            )

    @property
    def _batch(self) -> int:
        """The most frames that a slot takes."""
        return self._gather.size if self._gather else 1

    def _hold_ns(self) -> int:
        """How long to wait for more frames; 0: as many as there are will do."""
        if self._gather is None:
            return 0
        waiting, going, oldest_ns = self._intake.waiting()
        now_ns = monotonic_ns()
        return self._gather.wait_ns(
            waiting=waiting, going=going, oldest_ns=oldest_ns, now_ns=now_ns
        )

    def _enqueue(self, work: _Work) -> None:
        if self._gather is None:
            work.slot.enqueue(work.frames[0])
        else:
            cast(BatchSlot, work.slot).enqueue_all(work.frames)
        self._taken += sum(frame.index >= 0 for frame in work.frames)

    def _next_frames(self) -> Sequence[Frame]:
        """The canary's frame when it is time for that, else the sources', which also are the first:
        by them an engine measures what suits it.
        """
        known = None if self._canary is None or not self._taken else self._canary.due()
        if known is not None:
            return (known,)
        room = self._batch
        if self._max_frames is not None:
            room = min(room, self._max_frames - self._taken)
        if room == 1:
            fresh = self._take_fresh()
            return () if fresh is None else (fresh,)
        frames: list[Frame] = []
        while len(frames) < room and self._intake.waiting()[0]:
            fresh = self._take_fresh()
            if fresh is not None:
                frames.append(fresh)
        return frames

    def _take_fresh(self) -> Frame | None:
        frame = self._intake.take()
        if frame is None:
            return None
        meter, note = self._meters[frame.lane], self._notes[frame.lane]
        if self._ladder and frame.index >= 0 and not self._ladder.wants(frame.lane):
            meter.dropped("ladder")
            return None
        now_ns = monotonic_ns()
        if not is_stale(frame.captured_ns, now_ns, self._max_age_ns):
            note("kept", frame.index, now_ns)
            return frame
        note("stale", frame.index, now_ns)
        meter.dropped("stale")
        if self._ladder:
            self._ladder.took(now_ns - frame.captured_ns)
        return None

    def _collect(self, work: _Work) -> list[Result]:
        """The results, without the canary's, which is judged and neither counted nor told."""
        if self._gather is None:
            answers = [work.slot.collect()]
        else:
            answers = list(cast(BatchSlot, work.slot).collect_all())
            self._gather.served(monotonic_ns() - work.since_ns)
        results = []
        for frame, (detections, stages_ns) in zip(work.frames, answers, strict=True):
            if frame.index < 0 and self._canary is not None:
                self._canary.judge(detections)
                continue
            result = Result(frame, detections, monotonic_ns() - frame.captured_ns, stages_ns)
            self._meters[frame.lane].processed(result.age_ns, stages_ns)
            if self._ladder:
                self._ladder.took(result.age_ns)
            results.append(result)
        return results

    def _emit(self, result: Result) -> None:
        outlet = self._outlets[result.frame.lane]
        if not outlet.is_open:
            self._open_outlets()
        self._in_sinks = True
        outlet.emit(result)
        self._in_sinks = False


class _Work(NamedTuple):
    """What a slot is doing."""

    slot: Slot
    frames: Sequence[Frame]
    since_ns: int
