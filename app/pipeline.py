"""The pipeline: how do capture, slots and sinks work together, and how does a run end?

Three threads: ``capture`` reads the source, ``pipeline`` owns the backend and feeds the sinks, the
caller waits in ``wait``. The first error of any of them is kept, stops the others, and is raised
again by ``join``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic_ns

from app.capture import Capture
from app.detections import Result
from app.errors import ReaderGone, SinkError, SourceError
from app.frame import Frame, SourceInfo
from app.handoff import Handoff, Note, Policy, is_stale, note_nothing
from app.interfaces import (
    Backend,
    BackendFactory,
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
SLEPT_S = 2.0  # no look at the clock for so long: the process was stopped, not the source


class Pipeline:
    """One run from a source to sinks. ``start``, ``wait``, ``join``; ``stop`` from anywhere."""

    def __init__(
        self,
        source: FrameSource,
        make_backend: BackendFactory,
        sinks: Sequence[Sink],
        *,
        labels: Sequence[str],
        policy: Policy,
        max_age_ms: float | None = None,
        max_frames: int | None = None,
        stall_s: float = 15.0,
        canary: Canary | None = None,
        note: Note = note_nothing,
        make_ladder: Callable[[Callable[[str], None]], Ladder] | None = None,
    ) -> None:
        self._note = note
        self._canary = canary
        self._backend: Backend | None = None
        self._make_backend, self._sinks, self.labels = make_backend, sinks, labels
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * 1e6)
        self._max_frames, self._stall_s = max_frames, stall_s
        self._meter = Meter()
        self._ladder = make_ladder(self._meter.noticed) if make_ladder else None
        self._stop, self._done, self._opened = (threading.Event() for _ in range(3))
        self._info: SourceInfo | None = None
        self._error: BaseException | None = None
        self._source_error: BaseException | None = None
        self._taken = 0
        self._in_sinks = False
        self._watched_ns = self._watch_from_ns = monotonic_ns()
        self._error_lock = threading.Lock()
        self._handoff = Handoff(policy, on_drop=self._meter.dropped, note=note)
        self._capture = Capture(
            source,
            self._handoff,
            self._meter,
            stop=self._stop,
            on_open=self._source_open,
            on_error=self._source_failed,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._built = False
        self.backend_description = ""
        self.backend_remarks: Sequence[str] = ()

    def start(self) -> None:
        """Start both threads; the source opens while the backend builds."""
        self._capture.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask for an orderly end; frames in flight are still delivered."""
        self._stop.set()
        self._handoff.wake()

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: the engine cannot, or is not."""
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * 1e6)
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
        return replace(self._meter.snapshot(), state=self.state)

    def counts(self) -> PipelineStats:
        """The same without percentiles, at a fraction of the cost; any thread."""
        return self._meter.counts()

    def wait(self, timeout_s: float = 0.1) -> bool:
        """Wait a little for the end; True when it has come. Watches for reads that never return."""
        if self._done.wait(timeout_s):
            return True
        now_ns = monotonic_ns()
        if now_ns - self._watched_ns > SLEPT_S * 1e9:
            self._watch_from_ns = now_ns
        self._watched_ns = now_ns
        since_ns, info = self._capture.reading_since_ns, self._info
        if since_ns is None or info is None or self._stop.is_set():
            return False
        stuck_s = (now_ns - max(since_ns, self._watch_from_ns)) / 1e9
        if stuck_s > self._stall_s:
            self.fail(
                SourceError(
                    f"reading {info.uri} has not returned for {stuck_s:.0f} s; "
                    "check its cable, power or network, and start again"
                )
            )
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
        self._capture.join(JOIN_S)
        if self._capture.is_alive():
            log.warning("the source does not return from its driver; leaving it behind")
        if self._source_error is not None and self._taken != self._max_frames:
            raise self._source_error
        if self._error is not None:
            raise self._error
        return self.stats()

    def _source_failed(self, error: BaseException) -> None:
        """A source's error is its end: what it gave before is still delivered.

        It counts if it came first, before a stop, and if the run wanted more frames.
        """
        with self._error_lock:
            if self._error is None and not self._stop.is_set():
                self._source_error = error
                self._meter.state = "failed"
            else:
                log.debug("after the end: %s", error)

    def _source_open(self, info: SourceInfo) -> None:
        self._info = info
        self._opened.set()

    def _run(self) -> None:
        try:
            with self._make_backend(self._handoff.wake) as backend:
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
            self._handoff.abandon("stopped")
            self.stop()
            self._done.set()

    def _source_ready(self) -> bool:
        while not self._opened.wait(WAIT_S):
            if self._stop.is_set() or self._handoff.drained():
                return self._opened.is_set()
        return True

    def _feed_sinks(self, slots: Sequence[Slot]) -> None:
        """Open the sinks, process, close them; of several errors the first is kept."""
        assert self._info is not None
        touched: list[Sink] = []
        self._in_sinks = True
        try:
            for sink in self._sinks:
                touched.append(sink)
                sink.open(self._info, self.labels)
            self._in_sinks = False
            self._process(slots)
        except ReaderGone as gone:
            log.info("%s: stopped", gone)
        except BaseException as error:
            self.fail(error)
        self._in_sinks = True
        for sink in reversed(touched):
            try:
                sink.close()
            except BaseException as error:
                self.fail(error)
        self._in_sinks = False

    def _process(self, slots: Sequence[Slot]) -> None:
        """Keep every slot busy, deliver in order, until the source is drained or a stop."""
        idle: deque[Slot] = deque(slots)
        busy: deque[tuple[Slot, Frame]] = deque()
        try:
            self._keep_busy(idle, busy)
        finally:
            for _, frame in busy:  # an error or a reader that left: these never reach the sinks
                if frame.index >= 0:
                    self._meter.dropped("stopped")

    def _keep_busy(self, idle: deque[Slot], busy: deque[tuple[Slot, Frame]]) -> None:
        while True:
            if busy and busy[0][0].ready():
                slot, frame = busy[0]
                result = self._collect(slot, frame)
                idle.append(busy.popleft()[0])
                if result is not None:
                    self._emit(result)
                continue
            enough = self._taken == self._max_frames
            ended = self._stop.is_set() or enough or self._handoff.drained()
            if ended and not busy:
                return
            wants_frame = bool(idle) and not ended
            fresh = self._next_frame() if wants_frame else None
            if fresh is not None:
                slot = idle.popleft()
                slot.enqueue(fresh)
                busy.append((slot, fresh))
                self._taken += fresh.index >= 0
                continue
            until = busy[0][0].ready if busy else self._stop.is_set
            self._handoff.wait(for_frame=wants_frame, until=until, timeout_s=WAIT_S)

    def _next_frame(self) -> Frame | None:
        """The canary's frame when it is time for that, else the source's, which also is the first:
        by it an engine measures what suits it.
        """
        known = None if self._canary is None or not self._taken else self._canary.due()
        return self._take_fresh() if known is None else known

    def _take_fresh(self) -> Frame | None:
        frame = self._handoff.take()
        if frame is None:
            return None
        if self._ladder and frame.index >= 0 and not self._ladder.wants():
            self._meter.dropped("ladder")
            return None
        now_ns = monotonic_ns()
        if not is_stale(frame.captured_ns, now_ns, self._max_age_ns):
            self._note("kept", frame.index, now_ns)
            return frame
        self._note("stale", frame.index, now_ns)
        self._meter.dropped("stale")
        if self._ladder:
            self._ladder.took(now_ns - frame.captured_ns)
        return None

    def _collect(self, slot: Slot, frame: Frame) -> Result | None:
        """The result; None of the canary's frame, which is judged and neither counted nor told."""
        detections, stages_ns = slot.collect()
        if frame.index < 0 and self._canary is not None:
            self._canary.judge(detections)
            return None
        result = Result(frame, detections, monotonic_ns() - frame.captured_ns, stages_ns)
        self._meter.processed(result.age_ns, stages_ns)
        if self._ladder:
            self._ladder.took(result.age_ns)
        return result

    def _emit(self, result: Result) -> None:
        started_ns = monotonic_ns()
        self._in_sinks = True
        for sink in self._sinks:
            sink.emit(result)
        self._in_sinks = False
        self._meter.emitted(monotonic_ns() - started_ns)
