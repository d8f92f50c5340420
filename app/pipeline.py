"""The pipeline: how do capture, slots and sinks work together, and how does a run end?

Three threads: ``capture`` reads the source, ``pipeline`` owns the backend and feeds the sinks, the
caller waits in ``wait``. The first error of any of them is kept, stops the others, and is raised
again by ``join``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from time import monotonic_ns

from app.capture import Capture
from app.detections import Result
from app.errors import ReaderGone, SourceError
from app.frame import Frame, SourceInfo
from app.handoff import Handoff, Policy
from app.interfaces import BackendFactory, FrameSource, Sink, Slot
from app.stats import Meter, PipelineStats

log = logging.getLogger(__name__)

WAIT_S = 0.2  # longest sleep of the pipeline thread; it is woken earlier by frames and slots
JOIN_S = 3.0  # a capture thread stuck in a driver is left behind after this


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
    ) -> None:
        self._make_backend, self._sinks, self.labels = make_backend, sinks, labels
        self._max_age_ns = None if max_age_ms is None else int(max_age_ms * 1e6)
        self._max_frames, self._stall_s = max_frames, stall_s
        self._meter = Meter()
        self._stop, self._done, self._opened = (threading.Event() for _ in range(3))
        self._info: SourceInfo | None = None
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._handoff = Handoff(policy, on_drop=self._meter.dropped)
        self._capture = Capture(
            source,
            self._handoff,
            self._meter,
            stop=self._stop,
            on_open=self._source_open,
            on_error=self._keep,
        )
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self.backend_description = ""

    def start(self) -> None:
        """Start both threads; the source opens while the backend builds."""
        self._capture.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask for an orderly end; frames in flight are still delivered."""
        self._stop.set()
        self._handoff.wake()

    def fail(self, error: BaseException) -> None:
        """Keep the first error and stop."""
        self._keep(error)
        self.stop()

    def running(self) -> bool:
        """False once the pipeline thread has finished."""
        return not self._done.is_set()

    def stats(self) -> PipelineStats:
        """A snapshot; any thread."""
        return self._meter.snapshot()

    def wait(self, timeout_s: float = 0.2) -> bool:
        """Wait a little for the end; True when it has come. Watches for a stuck live source."""
        if self._done.wait(timeout_s):
            return True
        silent_s = (monotonic_ns() - self._meter.last_capture_ns) / 1e9
        info = self._info
        if info is not None and info.live and not self._stop.is_set() and silent_s > self._stall_s:
            self.fail(
                SourceError(
                    f"{info.uri} gave no frame for {silent_s:.0f} s; "
                    "check its cable, power or network, and start again"
                )
            )
        return False

    def join(self) -> PipelineStats:
        """Wait for both threads; raises the first error, else returns the final figures."""
        self._thread.join()
        self._capture.join(JOIN_S)
        if self._capture.is_alive():
            log.warning("the source's driver does not return from its read; leaving it behind")
        if self._error is not None:
            raise self._error
        return self.stats()

    def _keep(self, error: BaseException) -> None:
        """Keep the first error. A source's error is its end: what it gave is still delivered."""
        with self._error_lock:
            if self._error is None:
                self._error = error
                self._meter.state = "failed"
            else:
                log.debug("after the first error: %s", error)

    def _source_open(self, info: SourceInfo) -> None:
        self._info = info
        self._meter.last_capture_ns = monotonic_ns()
        self._opened.set()

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                backend = stack.enter_context(self._make_backend(self._handoff.wake))
                self.backend_description = backend.description
                log.info("engine %s", backend.description)
                if self._source_ready():
                    self._open_sinks(stack)
                    self._process(backend.slots)
        except ReaderGone as gone:
            log.info("%s: stopped", gone)
        except BaseException as error:
            self.fail(error)
        finally:
            self._handoff.abandon("stopped")
            self.stop()
            self._done.set()

    def _source_ready(self) -> bool:
        while not self._opened.wait(WAIT_S):
            if self._stop.is_set() or self._handoff.drained():
                return self._opened.is_set()
        return True

    def _open_sinks(self, stack: ExitStack) -> None:
        assert self._info is not None
        for sink in self._sinks:
            stack.callback(sink.close)
            sink.open(self._info, self.labels)

    def _process(self, slots: Sequence[Slot]) -> None:
        """Keep every slot busy, deliver in order, until the source is drained or a stop."""
        idle: deque[Slot] = deque(slots)
        busy: deque[tuple[Slot, Frame]] = deque()
        taken = 0
        while True:
            if busy and busy[0][0].ready():
                self._deliver(*busy[0])
                idle.append(busy.popleft()[0])
                continue
            ended = self._stop.is_set() or taken == self._max_frames or self._handoff.drained()
            if ended and not busy:
                return
            wants_frame = bool(idle) and not ended
            frame = self._take_fresh() if wants_frame else None
            if frame is not None:
                slot = idle.popleft()
                slot.enqueue(frame)
                busy.append((slot, frame))
                taken += 1
                continue
            until = busy[0][0].ready if busy else self._stop.is_set
            self._handoff.wait(for_frame=wants_frame, until=until, timeout_s=WAIT_S)

    def _take_fresh(self) -> Frame | None:
        frame = self._handoff.take()
        if frame is None or self._max_age_ns is None:
            return frame
        if monotonic_ns() - frame.captured_ns <= self._max_age_ns:
            return frame
        self._meter.dropped("stale")
        return None

    def _deliver(self, slot: Slot, frame: Frame) -> None:
        detections, stages_ns = slot.collect()
        now_ns = monotonic_ns()
        result = Result(frame, detections, now_ns - frame.captured_ns, stages_ns)
        self._meter.processed(result.age_ns, stages_ns)
        for sink in self._sinks:
            sink.emit(result)
        self._meter.emitted(monotonic_ns() - now_ns)
