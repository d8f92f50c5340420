"""The capture threads: from one or many sources to the one pipeline thread.

Each source has a capture thread and a hand-off of its own: one that hangs, floods or ends takes
nothing from the others. Whose turn it is goes round, so that each gets its share of the engine.
The hand-off, the figures and the numbering of a stream stay when its source is changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic, monotonic_ns

from ..core.credentials import mask_text
from ..core.errors import SourceEnded, SourceError
from ..core.filters import BaseThresholds, DetectionFilter
from ..core.frame import Frame, SourceInfo, describe
from ..core.interfaces import Analyser, FrameSource, Sink, TellsItsState
from ..core.states import WORKING, SourceStatus
from ..core.stats import Meter
from .handoff import Handoff, Note, Policy, SingleWaiterCondition, note_nothing
from .privacy import Privacy
from .sink_group import Lease, OnFault, SinkGroup

log = logging.getLogger(__name__)

OnFail = Callable[[BaseException], None]

READ_S = 0.1  # how soon a stop or a command is noticed while nothing comes
SLEPT_S = 2.0  # no look at the clock for so long: the process was stopped, not the source
INFOS_KEPT = 16  # sources whose frames may still be on their way


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One source, what it is called among others, and who takes its results.

    ``source`` None: it is swapped in while the run goes on. ``analyser``: follows its objects.
    ``privacy``: what nobody is to see of it.
    ``filter``: which detections it and the sinks get. ``lease``: see SinkGroup.
    """

    source: FrameSource | None
    sinks: Sequence[Sink]
    name: str = ""
    note: Note = note_nothing
    analyser: Analyser | None = None
    privacy: Privacy | None = None
    filter: DetectionFilter | None = None
    lease: Lease | None = None


class SourceWorker(threading.Thread):
    """Opens, reads and closes a source, all on this thread, until it ends, fails or is left.

    A daemon: a driver that never returns from a read must not keep the process alive.
    """

    def __init__(self, stream: SourceStream, source: FrameSource | None = None) -> None:
        number = stream.number
        super().__init__(name=f"capture-{number}" if number else "capture", daemon=True)
        self._stream, self._source = stream, source
        self._leaving = threading.Event()
        # when the read that is under way began; None between reads. For who watches from outside.
        self.reading_since_ns: int | None = None

    @property
    def is_left(self) -> bool:
        return self._leaving.is_set()

    def leave(self) -> None:
        """Close the source and end; returns at once."""
        self._leaving.set()

    def state_changed(self, state: str, why: str) -> None:
        """See SourceListener; on this thread."""
        if not self.is_left:
            self._stream.meter.state_changed(state, mask_text(why))

    def noticed(self, event: str) -> None:
        """See SourceListener; on this thread."""
        self._stream.meter.noticed(event)

    def give_up(self, error: SourceError) -> None:
        """The driver does not return: this is the source's end. Called on another thread."""
        self._stream.failed(self, error)
        self._stream.ended(self)
        self.leave()  # should it return after all, it has nothing to give any more

    def run(self) -> None:
        """Until the source ends, fails, or the run is stopped."""
        assert self._source is not None
        try:
            self._stream.opened(self, self._open(self._source))
            while not self.is_left:
                frame, read_ns = self._read(self._source)
                if frame is not None:
                    self._stream.give(self, frame, read_ns)
        except SourceEnded:
            log.debug("source ended")
            self._stream.meter.state_changed("ended", "the recording is over")
        except BaseException as error:
            self._stream.failed(self, error)
        finally:
            self._stream.ended(self)
            self._source.close()

    def _open(self, source: FrameSource) -> SourceInfo:
        if isinstance(source, TellsItsState):
            source.listen(self)
            return source.open()
        info = source.open()
        self._stream.meter.state = "live" if info.live else "replay"
        return info

    def _read(self, source: FrameSource) -> tuple[Frame | None, int]:
        """What came, and how many ns that took."""
        self.reading_since_ns = started_ns = monotonic_ns()
        try:
            frame = source.read(READ_S)
        finally:
            self.reading_since_ns = None
        return frame, monotonic_ns() - started_ns


class SourceStream:
    """The way of one source's frames to the engine, and of their results to its sinks.

    Frames are numbered through, over changes of the source, moves and loops; what a source itself
    passed over stays a gap. ``error`` is how its source failed.
    """

    def __init__(
        self,
        spec: StreamSpec,
        number: int,
        policy: Policy,
        *,
        gate: SingleWaiterCondition,
        meter: Meter,
        total: Meter,
        on_open: Callable[[], None],
        on_error: Callable[[SourceStream, BaseException], None],
        on_fault: OnFault | None,
    ) -> None:
        self.name, self.number, self.meter, self.note = spec.name, number, meter, spec.note
        self.sinks = SinkGroup(
            spec.sinks,
            total,
            info_of=self.info_of,
            on_fault=on_fault,
            analyser=spec.analyser,
            filter=spec.filter,
            status=lambda: self.status,
            privacy=spec.privacy,
            lease=spec.lease,
            on_fenced=lambda: meter.dropped("fenced"),
        )
        self.leaves = threading.Event()  # it is taken out of the run
        self._privacy = spec.privacy
        self.error: BaseException | None = None
        self.handoff = Handoff(policy, on_drop=meter.dropped, note=spec.note, gate=gate)
        self._on_open, self._on_error = on_open, on_error
        self._lock = threading.Lock()
        self._infos: tuple[tuple[int, SourceInfo], ...] = ()  # from which index on
        self._told = ""
        self._next_index: int | None = None
        self._offset = 0
        self._renumbers = self._stopped = False
        self.worker = None if spec.source is None else SourceWorker(self, spec.source)
        self._left: list[SourceWorker] = []

    @property
    def info(self) -> SourceInfo | None:
        infos = self._infos
        return infos[-1][1] if infos else None

    def info_of(self, index: int) -> SourceInfo | None:
        """The source that this frame is from."""
        for first, info in reversed(self._infos):
            if first <= index:
                return info
        return self.info

    @property
    def status(self) -> SourceStatus:
        status = self.meter.status
        if status.state == "failed" and self.error is None:
            return status._replace(state="ended")
        return status

    @property
    def flows(self) -> bool:
        return not self.handoff.ended and self.meter.state in WORKING

    def swap(self, make: Callable[[SourceWorker | None], SourceWorker]) -> None:
        """Leave the present source, and start the worker of another.

        ``make`` gets the worker before, whose source is being closed meanwhile.
        """
        with self._lock:
            before = self.worker
            self.worker = worker = make(before)
        if self._stopped:
            worker.leave()
        if before is not None:
            before.leave()
            self._left = [*(each for each in self._left if each.is_alive()), before]
        self.renumber()
        self.meter.state = "opening"
        worker.start()

    def stop(self) -> None:
        self._stopped = True
        if self.worker is not None:
            self.worker.leave()

    def opened(self, worker: SourceWorker, info: SourceInfo) -> None:
        """On the worker's thread: what comes from now on is of this source."""
        if self.name:
            info = replace(info, name=self.name)
        with self._lock:
            if worker is not self.worker:
                return
            self._infos = (*self._infos[1 - INFOS_KEPT :], (self._next_index or 0, info))
        told = f"source {f'{self.name}=' if self.name else ''}{info.uri}: {describe(info)}"
        if told != self._told:  # else it is a loop
            log.info("%s", told)
            self._told = told
        self._on_open()

    def renumber(self) -> None:
        """The next frame follows the one before, whatever number its source gives it."""
        self._renumbers = self._next_index is not None

    def give(self, worker: SourceWorker, frame: Frame, read_ns: int) -> None:
        """On the worker's thread: hand a frame over, waiting for room where none may be lost."""
        with self._lock:
            if worker is not self.worker:
                return  # it was left behind
            if self._renumbers and self._next_index is not None:
                self._offset, self._renumbers = self._next_index - frame.index, False
            if self._offset or self.number:
                frame = replace(frame, index=frame.index + self._offset, lane=self.number)
            if self._privacy is not None:
                frame = self._privacy.hide_areas(frame)
            missing = 0 if self._next_index is None else frame.index - self._next_index
            still = max(0, min(missing, frame.still))
            self.meter.captured(read_ns, still)
            if missing > still:
                self.meter.skipped(missing - still)
            self._next_index = frame.index + 1
            while not self.handoff.put(frame, READ_S):
                if worker.is_left:
                    self.meter.dropped("stopped")
                    return

    def failed(self, worker: SourceWorker, error: BaseException) -> None:
        if worker.is_left or worker is not self.worker:
            log.debug("after the end: %s", error)
            return
        self.error = error
        self.meter.state_changed("failed", mask_text(str(error)))
        self._on_error(self, error)

    def ended(self, worker: SourceWorker) -> None:
        """No more frames come, unless another source has taken its place."""
        if worker is self.worker:
            if self.meter.status.state in (*WORKING, "opening", "stalled"):
                self.meter.state_changed("ended", "stopped")
            self.handoff.end()

    def join(self, until_s: float) -> None:
        """Wait for the capture threads; one that is stuck in its driver is left behind."""
        for worker in (*self._left, self.worker):
            if worker is not None and worker.ident is not None:
                worker.join(max(0.0, until_s - monotonic()))
                if worker.is_alive():
                    log.warning("the source does not return from its driver; leaving it behind")


class SourceGroup:
    """The streams of a run. ``start``, ``watch`` and ``join`` on one thread, ``take`` on another.

    A source's error is its end: what it gave before is still delivered, and others go on.
    ``error`` is the first that came before a stop.
    """

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        policy: Policy,
        *,
        meter: Meter,
        stall_s: float,
        on_fault: OnFault | None = None,
        grows: bool = False,
    ) -> None:
        self._stall_s, self._total, self._on_fault = stall_s, meter, on_fault
        self.error: BaseException | None = None
        self._gate, self._opened = SingleWaiterCondition(), threading.Event()
        self.wake = self._gate.wake  # a slot has become ready, or a stop was asked for; any thread
        self._policy, self._lock = policy, threading.Lock()
        self._grows = grows
        alone = len(specs) == 1 and not grows and not specs[0].name
        # both are replaced, never changed: any thread may go through them
        self.by_number: dict[int, SourceStream] = {
            number: self._stream(spec, number, meter if alone else meter.lane())
            for number, spec in enumerate(specs)
        }
        self.streams = list(self.by_number.values())
        self._next = len(specs)
        self.held = False  # sources are exchanged: that none is left for a moment is no end
        self._turn = -1
        self._watched_ns = self._watch_from_ns = monotonic_ns()

    def _stream(self, spec: StreamSpec, number: int, meter: Meter) -> SourceStream:
        return SourceStream(
            spec,
            number,
            self._policy,
            gate=self._gate,
            meter=meter,
            total=self._total,
            on_open=self._opened.set,
            on_error=self._source_failed,
            on_fault=self._on_fault,
        )

    def add(self, spec: StreamSpec, *, owner: int | None, base: BaseThresholds) -> SourceStream:
        """Start another source while the run goes on; any thread.

        ``owner``: the thread that feeds its sinks; ``base``: thresholds of what its filter leaves.
        """
        with self._lock:
            stream = self._stream(spec, self._next, self._total.lane())
            stream.sinks.claim(owner)
            stream.sinks.filter.base = base
            self._next += 1
            self._set({**self.by_number, stream.number: stream})
        if stream.worker is not None:
            stream.worker.start()
        return stream

    @property
    def several(self) -> bool:
        """Whether there have ever been several, so that figures of one are not those of all."""
        return self._next > 1

    def leave(self, stream: SourceStream) -> None:
        """End a source; ``retire`` closes its sinks. Any thread, returns at once."""
        stream.stop()
        if self.error is stream.error:
            self.error = None
        stream.handoff.abandon("released")
        stream.leaves.set()
        self.wake()

    def retire(self, under_way: set[int], fail: OnFail) -> None:
        """Close the sinks of sources that leave, and whose frames have all been delivered.

        On the thread that feeds them.
        """
        for stream in [each for each in self.streams if each.leaves.is_set()]:
            if stream.number in under_way:
                continue
            stream.sinks.close(fail)
            with self._lock:
                self._set({n: each for n, each in self.by_number.items() if each is not stream})
            self._total.without(stream.meter)

    def _set(self, by_number: dict[int, SourceStream]) -> None:
        self.by_number, self.streams = by_number, list(by_number.values())

    def start(self) -> None:
        for stream in self.streams:
            if stream.worker is not None and stream.worker.ident is None:
                stream.worker.start()

    def stop(self) -> None:
        for stream in self.streams:
            stream.stop()
        self.wake()

    def wait_open(self, timeout_s: float) -> bool:
        """Whether a source has opened; waits a little for the first."""
        return self._opened.wait(timeout_s)

    def take(self) -> Frame | None:
        """The next frame of the source whose turn it is, or None; never waits."""
        streams = self.streams
        for _ in streams:
            self._turn = (self._turn + 1) % len(streams)
            frame = streams[self._turn].handoff.take()
            if frame is not None:
                return frame
        return None

    def waiting(self) -> tuple[int, int, int]:
        """(sources with a frame that waits, sources whose next may come, oldest captured_ns)."""
        with self._gate.lock:
            firsts = [stream.handoff.first for stream in self.streams]
            flowing = sum(stream.flows for stream in self.streams)
        times = [frame.captured_ns for frame in firsts if frame is not None]
        return len(times), flowing, min(times, default=0)

    def wait(self, *, frames: int, until: Callable[[], bool], timeout_s: float) -> None:
        """Until ``until()``, or until so many sources have a frame or all have ended; 0: never."""
        self._gate.wait(lambda: until() or (frames > 0 and self._stirs(frames)), timeout_s)

    def _stirs(self, frames: int) -> bool:
        """With the lock held."""
        if len(self.by_number) == 1 and not self._grows:
            return self.streams[0].handoff.stirs
        waiting = sum(stream.handoff.first is not None for stream in self.streams)
        flowing = sum(stream.flows for stream in self.streams)
        over = not self.held and all(stream.handoff.ended for stream in self.streams)
        return waiting >= min(frames, max(flowing, 1)) or over

    def drained(self) -> bool:
        return not self.held and all(stream.handoff.drained() for stream in self.streams)

    def finish(self) -> None:
        for stream in self.streams:
            stream.handoff.end()

    def clear(self, reason: str) -> None:
        for stream in self.streams:
            stream.handoff.clear(reason)

    def abandon(self, reason: str) -> None:
        """The consumer is gone: what waits, and what still comes, is dropped for ``reason``."""
        for stream in self.streams:
            stream.handoff.abandon(reason)

    def watch(self) -> None:
        """Call now and then, from outside: a read that never returns is its source's failure."""
        now_ns = monotonic_ns()
        if now_ns - self._watched_ns > SLEPT_S * 1e9:
            self._watch_from_ns = now_ns
        self._watched_ns = now_ns
        for stream in self.streams:
            worker, info = stream.worker, stream.info
            since_ns = None if worker is None else worker.reading_since_ns
            if worker is None or since_ns is None or info is None or worker.is_left or stream.error:
                continue
            stuck_s = (now_ns - max(since_ns, self._watch_from_ns)) / 1e9
            if stuck_s > self._stall_s:
                worker.give_up(
                    SourceError(
                        f"reading {info.uri} has not returned for {stuck_s:.0f} s; "
                        "check its cable, power or network, and start again"
                    )
                )

    def _source_failed(self, stream: SourceStream, error: BaseException) -> None:
        if not self._grows:  # there it is no end of the run
            self.error = self.error or error
        if len(self.streams) > 1 or self._grows:
            log.error("source %s has failed, the others go on: %s", stream.name, error)

    def join(self, timeout_s: float) -> None:
        """Wait for the capture threads together; those that are stuck are left behind."""
        until_s = monotonic() + timeout_s
        for stream in self.streams:
            stream.join(until_s)
