"""What a window may ask of a running pipeline: commands that return at once, and the state.

One thread, ``session``: it sees what becomes of engines and sources, follows the switch of the
recording, and reads the figures.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from ..config import Config
from ..core.errors import KestrelError, SourceError
from ..core.package import NAME
from ..core.stats import PipelineStats
from ..ops.power import PowerReading
from ..pipeline.capture import StreamSpec
from ..pipeline.handoff import Policy
from ..pipeline.pipeline import Pipeline
from ..pipeline.player import Opening
from .engine_switch import EngineSwitch, Prepare
from .figures import MachineGauge, RollingLatency, no_power
from .recording import RecordingSink
from .source_switch import SourceSwitcher
from .state import Choice, Figures, LastWord, SessionState, StateStore

log = logging.getLogger(__name__)

TICK_S = 0.05
FIGURES_S = 0.25
MACHINE_S = 1.0
CLOSE_S = 0.5  # for the source to be closed at the end


@dataclass(frozen=True, slots=True)
class SessionSource:
    """One source of a session: how it is found by its URI, which may take long, and its stream.

    The sinks of ``stream`` get every result; the fault of one closes it, is told, and is the
    session's ``error`` at the end.
    """

    make: Callable[[str], Opening]
    stream: StreamSpec
    recording: RecordingSink


class Session:
    """``start``, then anything, then ``stop`` and ``join``.

    ``prepare`` finds a model and its engine, which may take long. ``stay``: the end of recordings
    is not the end of the run, and folders of pictures are for browsing. ``loops`` says whether a
    recording begins again; ``power`` tells what the machine draws. ``sources``: what may be asked
    of each.
    """

    def __init__(
        self,
        sources: Sequence[SessionSource],
        prepare: Prepare,
        *,
        choice: Choice,
        config: Config,
        stay: bool,
        loops: Callable[[str], bool] = lambda uri: False,
        power: Callable[[], PowerReading] = no_power,
    ) -> None:
        self._stay, self._power = stay, power
        self._recordings = [each.recording for each in sources]
        self._store = store = StateStore(SessionState(score=config.score, iou=config.iou))
        self._latencies = [RollingLatency() for _ in sources]
        self._figures = [Figures()] * len(sources)
        first, *more = [
            replace(each.stream, sinks=[latency, each.recording, *each.stream.sinks])
            for each, latency in zip(sources, self._latencies, strict=True)
        ]
        self.pipeline = Pipeline(
            None,
            None,
            first.sinks,
            policy=Policy.LATEST,
            name=first.name,
            more=more,
            max_age_ms=config.max_age_ms,
            max_frames=config.max_frames,
            stall_s=config.read_timeout_s * 1.5,
            note=first.note,
            analyser=first.analyser,
            privacy=first.privacy,
            filter=first.filter,
            stays=True,
            on_fault=self._sink_failed,
        )
        self.sources = [
            SourceSwitcher(
                self.pipeline,
                each.make,
                tell=lambda text: store.tell(text, "error"),
                loops=loops,
                browse=stay,
                number=number,
            )
            for number, each in enumerate(sources)
        ]
        self._engines = EngineSwitch(
            self.pipeline,
            prepare,
            first=choice,
            config=config,
            store=store,
            show_again=self._show_again,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._error: BaseException | None = None
        self.choose, self.cancel = self._engines.choose, self._engines.cancel
        self.set_thresholds = self._engines.set_thresholds
        self.tell = store.tell

    def start(self, *uris: str) -> None:
        for source, uri in zip(self.sources, uris, strict=True):
            source.show(uri)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self.pipeline.stop()

    def join(self, timeout_s: float) -> bool:
        """True if it has ended in time; what has not is left behind."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def error(self) -> BaseException | None:
        """Why it ended, or why nothing is being detected."""
        return self._error or self._engines.error

    @property
    def remarks(self) -> Sequence[str]:
        return self.pipeline.backend_remarks

    def state(self, number: int = 0) -> SessionState:
        """Everything at this moment, as one of the sources sees it; any thread, never waits."""
        return replace(
            self._store.state,
            source=self.sources[number].state,
            recording_to=self._recordings[number].wanted,
            figures=self._figures[number],
        )

    def run_state(self) -> str:
        """In the words of a pipeline's state; any thread."""
        state = self._store.state
        if state.failure:
            return "failed"
        if state.running is None:
            return "building"
        return self.sources[0].state.phase if len(self.sources) == 1 else self.pipeline.state

    def stats(self) -> PipelineStats:
        """Figures of the whole run, over all its sources and engines; any thread."""
        return replace(self.pipeline.stats(), state=self.run_state())

    def has_run(self) -> bool:
        return self._store.state.running is not None

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: no engine runs yet."""
        self.pipeline.set_max_age(max_age_ms)
        self._engines.set_thresholds(score, iou)
        return self.has_run()

    def refilter(self) -> None:
        self.pipeline.refilter()
        self._show_again()

    def _show_again(self) -> None:
        for source in self.sources:
            source.show_again()

    def _run(self) -> None:
        handler = LastWord(self._store)
        logging.getLogger(NAME).addHandler(handler)
        gauge = MachineGauge(power=self._power)
        next_figures_s = next_machine_s = 0.0
        try:
            self.pipeline.start()
            while not (self._stop.wait(TICK_S) or self.pipeline.wait(0)):
                self._engines.follow()
                for source in self.sources:
                    source.return_if_failed()
                for recording in self._recordings:
                    recording.follow()
                self._watch_end()
                now_s = monotonic()
                if now_s >= next_figures_s:
                    next_figures_s = now_s + FIGURES_S
                    self._figures = [self._read_figures(n) for n in range(len(self.sources))]
                if now_s >= next_machine_s:
                    next_machine_s = now_s + MACHINE_S
                    self._store.note(machine=gauge.read())
        except BaseException as error:
            log.debug("session failed", exc_info=True)
            self._error = error
        finally:
            logging.getLogger(NAME).removeHandler(handler)
            self._end()

    def _read_figures(self, number: int) -> Figures:
        """What the window shows of a source; cheap."""
        counts, runs = self.pipeline.counts(number), self.pipeline.engine is not None
        latency = self._latencies[number]
        p50, p95 = latency.ages_ms()
        return Figures(
            fps=counts.fps if runs else 0.0,
            capture_fps=counts.capture_fps if runs else 0.0,
            age_p50_ms=p50,
            age_p95_ms=p95,
            stages_ms=latency.stages_ms(),
            captured=counts.captured,
            processed=counts.processed,
            dropped=counts.dropped,
        )

    def _sink_failed(self, error: KestrelError) -> None:
        self.tell(" ".join(str(error).split()), "error")

    def _watch_end(self) -> None:
        """Without ``stay`` the run is over when all its recordings are."""
        phases = [source.state.phase for source in self.sources]
        if not self._stay and all(phase in ("ended", "failed") for phase in phases):
            self.pipeline.finish()

    def _end(self) -> None:
        self.pipeline.stop()
        try:
            self.pipeline.join(source_s=CLOSE_S)
        except BaseException as error:
            self._error = self._error or error
        if not self._stay:  # of several sources one that failed is told once the others are over
            for source in self.sources:
                if source.state.phase == "failed":
                    fault = None if source.player is None else source.player.fault
                    self._error = self._error or fault or SourceError(source.state.error)
        errors = (self._error, self._engines.error, *self.pipeline.faults)
        self._error = next((each for each in errors if each is not None), None)
        self._store.note(ended=True)
