"""What a window may ask of a running pipeline: commands that return at once, and the state.

One thread, ``session``: it sees what becomes of engines and sources, follows the switch of the
recording, and reads the figures.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from ..config import Config
from ..core.errors import KestrelError, SourceError
from ..core.filters import DetectionFilter
from ..core.frame import SourceInfo
from ..core.interfaces import Analyser, Sink
from ..core.package import NAME
from ..core.stats import PipelineStats
from ..ops.power import PowerReading
from ..pipeline.handoff import Note, Policy, note_nothing
from ..pipeline.pipeline import Pipeline
from ..pipeline.player import Opening
from ..pipeline.privacy import Privacy
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


class Session:
    """``start``, then anything, then ``stop`` and ``join``.

    ``make`` finds a source by its URI, ``prepare`` a model and its engine; both may take long.
    ``stay``: a recording's end is not the end of the run. ``sinks`` get every result; the fault of
    one closes it, is told, and is the ``error`` at the end. ``loops`` says whether a recording
    begins again; ``note`` hears what becomes of each frame; ``power`` tells what the machine draws;
    ``analyser`` follows objects, of those that ``filter`` leaves; ``privacy`` hides what nobody is
    to see.
    """

    def __init__(
        self,
        make: Callable[[str], Opening],
        prepare: Prepare,
        *,
        choice: Choice,
        config: Config,
        sinks: Sequence[Sink],
        recording: RecordingSink,
        stay: bool,
        loops: Callable[[str], bool] = lambda uri: False,
        note: Note = note_nothing,
        power: Callable[[], PowerReading] = no_power,
        analyser: Analyser | None = None,
        privacy: Privacy | None = None,
        filter: DetectionFilter | None = None,
    ) -> None:
        self._recording, self._stay, self._power = recording, stay, power
        self._store = store = StateStore(SessionState(score=config.score, iou=config.iou))
        self._latency = RollingLatency()
        self.pipeline = Pipeline(
            None,
            None,
            [self._latency, recording, *sinks],
            policy=Policy.LATEST,
            max_age_ms=config.max_age_ms,
            max_frames=config.max_frames,
            stall_s=config.read_timeout_s * 1.5,
            note=note,
            analyser=analyser,
            privacy=privacy,
            filter=filter,
            stays=True,
            on_fault=self._sink_failed,
        )
        self.sources = SourceSwitcher(
            self.pipeline, make, tell=lambda text: store.tell(text, "error"), loops=loops
        )
        self._engines = EngineSwitch(
            self.pipeline,
            prepare,
            first=choice,
            config=config,
            store=store,
            show_again=self.sources.show_again,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._error: BaseException | None = None
        self.choose, self.cancel = self._engines.choose, self._engines.cancel
        self.set_thresholds = self._engines.set_thresholds
        self.tell = store.tell

    def start(self, uri: str) -> None:
        """Open the source and build the engine, beside each other."""
        self.sources.show(uri)
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; returns at once."""
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
        """What the engine chose and measured, for the report at the end."""
        return self.pipeline.backend_remarks

    def state(self) -> SessionState:
        """Everything at this moment; any thread, never waits."""
        wanted = self._recording.wanted
        return replace(self._store.state, source=self.sources.state, recording_to=wanted)

    def run_state(self) -> str:
        """In the words of a pipeline's state; any thread."""
        state = self._store.state
        if state.failure:
            return "failed"
        return "building" if state.running is None else self.sources.state.phase

    def stats(self) -> PipelineStats:
        """Figures of the whole run, over all its sources and engines; any thread."""
        return replace(self.pipeline.stats(), state=self.run_state())

    def has_run(self) -> bool:
        """Whether an engine ever came up."""
        return self._store.state.running is not None

    def info_of(self, index: int) -> SourceInfo | None:
        """The source that this frame is from; any thread."""
        return self.pipeline.info_of(index)

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; any thread. False: no engine runs yet."""
        self.pipeline.set_max_age(max_age_ms)
        self._engines.set_thresholds(score, iou)
        return self.has_run()

    def refilter(self) -> None:
        """The filter was changed; any thread."""
        self.pipeline.refilter()
        self.sources.show_again()

    def _run(self) -> None:
        handler = LastWord(self._store)
        logging.getLogger(NAME).addHandler(handler)
        gauge = MachineGauge(power=self._power)
        next_figures_s = next_machine_s = 0.0
        try:
            self.pipeline.start()
            while not (self._stop.wait(TICK_S) or self.pipeline.wait(0)):
                self._engines.follow()
                self.sources.return_if_failed()
                self._recording.follow()
                self._watch_end()
                now_s = monotonic()
                if now_s >= next_figures_s:
                    next_figures_s = now_s + FIGURES_S
                    self._store.note(figures=self._figures())
                if now_s >= next_machine_s:
                    next_machine_s = now_s + MACHINE_S
                    self._store.note(machine=gauge.read())
        except BaseException as error:
            log.debug("session failed", exc_info=True)
            self._error = error
        finally:
            logging.getLogger(NAME).removeHandler(handler)
            self._end()

    def _figures(self) -> Figures:
        """What the window shows; cheap."""
        counts, runs = self.pipeline.counts(), self.pipeline.engine is not None
        p50, p95 = self._latency.ages_ms()
        return Figures(
            fps=counts.fps if runs else 0.0,
            capture_fps=counts.capture_fps if runs else 0.0,
            age_p50_ms=p50,
            age_p95_ms=p95,
            stages_ms=self._latency.stages_ms(),
            captured=counts.captured,
            processed=counts.processed,
            dropped=counts.dropped,
        )

    def _sink_failed(self, error: KestrelError) -> None:
        self.tell(" ".join(str(error).split()), "error")

    def _watch_end(self) -> None:
        """Without ``stay`` the run is over when its recording is."""
        source = self.sources.state
        if self._stay or source.phase not in ("ended", "failed"):
            return
        if source.phase == "failed":
            player = self.pipeline.source
            fault = None if player is None else player.fault
            self._error = self._error or fault or SourceError(source.error)
        self.pipeline.finish()

    def _end(self) -> None:
        self.pipeline.stop()
        try:
            self.pipeline.join(source_s=CLOSE_S)
        except BaseException as error:
            self._error = self._error or error
        errors = (self._error, self._engines.error, *self.pipeline.faults)
        self._error = next((each for each in errors if each is not None), None)
        self._store.note(ended=True)
