"""The capture threads: from one or many sources to the one pipeline thread.

Each source has a capture thread and a hand-off of its own: one that hangs, floods or ends takes
nothing from the others. Whose turn it is goes round, so that each gets its share of the engine.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic, monotonic_ns

from ..core.errors import SourceEnded, SourceError
from ..core.frame import Frame, SourceInfo, describe
from ..core.interfaces import FrameSource, Sink, TellsItsState
from ..core.stats import WORKING, Meter
from .handoff import Gate, Handoff, Note, Policy, note_nothing

log = logging.getLogger(__name__)


READ_TIMEOUT_S = 0.2  # how soon a stop is noticed while nothing comes


class Capture(threading.Thread):
    """Opens, reads and closes the source, all on this thread.

    A daemon: a driver that never returns from a read must not keep the process alive. ``lane`` is
    written on its frames, ``name`` told in the log.
    """

    def __init__(
        self,
        source: FrameSource,
        handoff: Handoff,
        meter: Meter,
        *,
        stop: threading.Event,
        on_open: Callable[[SourceInfo], None],
        on_error: Callable[[BaseException], None],
        lane: int = 0,
        name: str = "",
    ) -> None:
        super().__init__(name=f"capture-{lane}" if lane else "capture", daemon=True)
        self._lane, self._source_name = lane, name
        self._source, self._handoff, self._meter = source, handoff, meter
        self._stop_event, self._on_open, self._on_error = stop, on_open, on_error
        # when the read that is under way began; None between reads. For who watches from outside.
        self.reading_since_ns: int | None = None

    def run(self) -> None:
        """Until the source ends, fails, or the run is stopped."""
        teller = self._source if isinstance(self._source, TellsItsState) else None
        try:
            if teller:
                teller.listen(self._meter)
            info = self._source.open()
            log.info("source %s: %s", self._called(info), describe(info))
            self._on_open(info)
            if not teller:
                self._meter.state = "live" if info.live else "replay"
            self._read_all()
        except SourceEnded:
            log.debug("source ended")
        except BaseException as error:
            self._on_error(error)
        finally:
            self._handoff.end()
            self._source.close()

    def _called(self, info: SourceInfo) -> str:
        return f"{self._source_name}={info.uri}" if self._source_name else info.uri

    def _read_all(self) -> None:
        expected: int | None = None
        while not self._stop_event.is_set():
            self.reading_since_ns = started_ns = monotonic_ns()
            try:
                frame = self._source.read(READ_TIMEOUT_S)
            finally:
                self.reading_since_ns = None
            if frame is None:
                continue
            self._meter.captured(monotonic_ns() - started_ns)
            if expected is not None and frame.index > expected:
                self._meter.skipped(frame.index - expected)
            expected = frame.index + 1
            if self._lane:
                frame = replace(frame, lane=self._lane)
            while not self._handoff.put(frame, READ_TIMEOUT_S):
                if self._stop_event.is_set():
                    self._meter.dropped("stopped")
                    return


SLEPT_S = 2.0  # no look at the clock for so long: the process was stopped, not the source


@dataclass(frozen=True, slots=True)
class Lane:
    """One source, what it is called among others, and who takes its results."""

    source: FrameSource
    sinks: Sequence[Sink]
    name: str = ""
    note: Note = note_nothing


class Inlet:
    """A lane at work: its thread, its hand-off, its figures, and how it ended."""

    def __init__(
        self,
        lane: Lane,
        number: int,
        policy: Policy,
        *,
        gate: Gate,
        meter: Meter,
        stop: threading.Event,
        on_open: Callable[[], None],
        on_error: Callable[[Inlet, BaseException], None],
    ) -> None:
        self.name, self.meter = lane.name, meter
        self.info: SourceInfo | None = None
        self.error: BaseException | None = None
        self._on_open = on_open
        self.handoff = Handoff(policy, on_drop=meter.dropped, note=lane.note, gate=gate)
        self.capture = Capture(
            lane.source,
            self.handoff,
            meter,
            stop=stop,
            on_open=self._opened,
            on_error=lambda error: on_error(self, error),
            lane=number,
            name=lane.name,
        )

    @property
    def flows(self) -> bool:
        """Whether a frame may come any moment: it is neither over nor away."""
        return not self.handoff.ended and self.meter.state in WORKING

    def _opened(self, info: SourceInfo) -> None:
        self.info = replace(info, name=self.name) if self.name else info
        self._on_open()


class Intake:
    """The inlets of a run. ``start``, ``watch`` and ``join`` on one thread, ``take`` on another.

    A source's error is its end: what it gave before is still delivered, and others go on.
    ``error`` is the first that came before a stop.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        policy: Policy,
        *,
        meter: Meter,
        stop: threading.Event,
        stall_s: float,
    ) -> None:
        self._stop, self._stall_s = stop, stall_s
        self.error: BaseException | None = None
        self._gate, self._opened = Gate(), threading.Event()
        alone = len(lanes) == 1
        self.inlets = [
            Inlet(
                lane,
                number,
                policy,
                gate=self._gate,
                meter=meter if alone else meter.lane(),
                stop=stop,
                on_open=self._opened.set,
                on_error=self._source_failed,
            )
            for number, lane in enumerate(lanes)
        ]
        self._turn = -1
        self._watched_ns = self._watch_from_ns = monotonic_ns()

    def start(self) -> None:
        """Open all sources, each on its own thread."""
        for inlet in self.inlets:
            inlet.capture.start()

    def wait_open(self, timeout_s: float) -> bool:
        """Whether a source has opened; waits a little for the first."""
        return self._opened.wait(timeout_s)

    def take(self) -> Frame | None:
        """The next frame of the source whose turn it is, or None; never waits."""
        count = len(self.inlets)
        for _ in range(count):
            self._turn = (self._turn + 1) % count
            frame = self.inlets[self._turn].handoff.take()
            if frame is not None:
                return frame
        return None

    def waiting(self) -> tuple[int, int, int]:
        """(sources with a frame that waits, sources whose next may come, oldest captured_ns)."""
        with self._gate.lock:
            firsts = [inlet.handoff.first for inlet in self.inlets]
            flowing = sum(inlet.flows for inlet in self.inlets)
        times = [frame.captured_ns for frame in firsts if frame is not None]
        return len(times), flowing, min(times, default=0)

    def wait(self, *, frames: int, until: Callable[[], bool], timeout_s: float) -> None:
        """Until ``until()``, or until so many sources have a frame or all have ended; 0: never."""
        self._gate.wait(lambda: until() or (frames > 0 and self._stirs(frames)), timeout_s)

    def _stirs(self, frames: int) -> bool:
        """With the lock held."""
        if len(self.inlets) == 1:
            return self.inlets[0].handoff.stirs
        waiting = sum(inlet.handoff.first is not None for inlet in self.inlets)
        flowing = sum(inlet.flows for inlet in self.inlets)
        over = all(inlet.handoff.ended for inlet in self.inlets)
        return waiting >= min(frames, max(flowing, 1)) or over

    def wake(self) -> None:
        """A slot has become ready, or a stop was asked for; from any thread."""
        with self._gate.lock:
            self._gate.notify()

    def drained(self) -> bool:
        """True when every source has ended and every frame has been taken."""
        return all(inlet.handoff.drained() for inlet in self.inlets)

    def abandon(self, reason: str) -> None:
        """The consumer is gone: what waits, and what still comes, is dropped for ``reason``."""
        for inlet in self.inlets:
            inlet.handoff.abandon(reason)

    def watch(self) -> None:
        """Call now and then, from outside: a read that never returns is its source's failure."""
        now_ns = monotonic_ns()
        if now_ns - self._watched_ns > SLEPT_S * 1e9:
            self._watch_from_ns = now_ns
        self._watched_ns = now_ns
        for inlet in self.inlets:
            since_ns = inlet.capture.reading_since_ns
            if since_ns is None or inlet.info is None or inlet.error or self._stop.is_set():
                continue
            stuck_s = (now_ns - max(since_ns, self._watch_from_ns)) / 1e9
            if stuck_s > self._stall_s:
                fault = SourceError(
                    f"reading {inlet.info.uri} has not returned for {stuck_s:.0f} s; "
                    "check its cable, power or network, and start again"
                )
                self._source_failed(inlet, fault)
                inlet.handoff.end()

    def _source_failed(self, inlet: Inlet, error: BaseException) -> None:
        """On the source's own thread, or on that which watches."""
        if self._stop.is_set():
            log.debug("after the end: %s", error)
            return
        inlet.error, inlet.meter.state = error, "failed"
        self.error = self.error or error
        if len(self.inlets) > 1:
            log.error("source %s has failed, the others go on: %s", inlet.name, error)

    def join(self, timeout_s: float) -> None:
        """Wait for the capture threads; one that is stuck in its driver is left behind."""
        end_s = monotonic() + timeout_s
        for inlet in self.inlets:
            inlet.capture.join(max(0.0, end_s - monotonic()))
            if inlet.capture.is_alive():
                log.warning("the source does not return from its driver; leaving it behind")
