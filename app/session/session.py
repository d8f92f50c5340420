"""What runs behind a window, and how is it changed while it runs?

One thread, ``session``, owns the engines: it starts one beside the other, lets it take over once
it is up, and says what happened where it does not come up. The window calls methods that return at
once, and reads ``state``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

from app.config import Config
from app.errors import DeviceError, SourceError
from app.interfaces import Sink
from app.session.engine import Engine, Prepared
from app.session.feed import Feed
from app.session.machine import MachineGauge
from app.session.outlets import Outlets
from app.session.outputs import KeptSink, RecordingSink
from app.session.recent import RecentSink
from app.session.report import LastWord, told, total_of
from app.session_state import Choice, Figures, Notice, SessionState, Severity
from app.stats import Meter, PipelineStats

log = logging.getLogger(__name__)

TICK_S = 0.05
FIGURES_S = 0.25
MACHINE_S = 1.0

Prepare = Callable[[Choice, float | None, float | None], Prepared]


class Session:
    """``start``, then anything, then ``stop`` and ``join``.

    ``stay``: a recording's end is not the end of the run. ``sinks`` get every result for as long
    as the session lives; ``kept`` are those that were asked for on the command line.
    """

    def __init__(
        self,
        feed: Feed,
        prepare: Prepare,
        *,
        choice: Choice,
        config: Config,
        sinks: Sequence[Sink],
        kept: Sequence[KeptSink],
        recording: RecordingSink,
        stay: bool,
    ) -> None:
        self.feed, self._prepare, self._config = feed, prepare, config
        self._kept, self._recording, self._stay = kept, recording, stay
        self._recent = RecentSink()
        self._outlets = Outlets([*sinks, self._recent, recording, *kept], feed.info_of)
        self._lock = threading.Lock()
        self._first = choice
        self._wanted: Choice | None = choice
        self._score, self._iou = config.score, config.iou
        self._tune = self._cancelled = False
        self._engine: Engine | None = None
        self._candidate: Engine | None = None
        self._past: list[PipelineStats] = []
        self._state = SessionState(score=config.score, iou=config.iou)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self.error: BaseException | None = None

    def start(self, uri: str) -> None:
        """Open the source and build the engine, beside each other."""
        self.feed.show(uri)
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; returns at once."""
        self._stop.set()
        self.feed.stop()

    def join(self, timeout_s: float) -> bool:
        """True if everything was ended in time; what was not is left behind."""
        until_s = monotonic() + timeout_s
        self._thread.join(timeout_s)
        closed = self.feed.join(max(0.0, min(0.5, until_s - monotonic())))
        return closed and not self._thread.is_alive()

    def state(self) -> SessionState:
        """Everything at this moment; any thread, never waits."""
        return replace(self._state, feed=self.feed.state(), recording_to=self._recording.wanted)

    def totals(self) -> PipelineStats | None:
        """Figures of the whole run: counts of all engines, the rest of the last one."""
        return total_of(self._past)

    def stats(self) -> PipelineStats:
        """The same, with the running engine's; any thread."""
        parts = list(self._past)
        if self._engine is not None and self._engine.pipeline is not None:
            parts.append(self._engine.pipeline.stats())
        return total_of(parts) or Meter().snapshot()

    def cancel(self) -> None:
        """Give up what is being built beside the running engine."""
        self._cancelled = True

    def choose(self, choice: Choice) -> None:
        """Change to this model and engine; the running one goes on until it is up."""
        with self._lock:
            self._wanted = choice

    def set_thresholds(self, score: float, iou: float) -> None:
        """From the next frame on, where the engine can; else it is built anew beside the old."""
        with self._lock:
            self._score, self._iou, self._tune = score, iou, True

    def tell(self, text: str, severity: Severity = "warning") -> None:
        """Put a notice up; any thread."""
        log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", text)
        with self._lock:
            number = self._state.notice.number + 1 if self._state.notice else 1
            self._state = replace(self._state, notice=Notice(number, severity, text))

    def _run(self) -> None:
        handler = LastWord(self._hear)
        logging.getLogger("app").addHandler(handler)
        gauge = MachineGauge()
        next_figures_s = next_machine_s = 0.0
        try:
            while not self._stop.wait(TICK_S):
                self._follow_wishes()
                self._watch_candidate()
                self._watch_engine()
                self.feed.return_if_failed()
                self._recording.follow()
                self._watch_end()
                now_s = monotonic()
                if now_s >= next_figures_s:
                    next_figures_s = now_s + FIGURES_S
                    self._note(figures=self._figures())
                if now_s >= next_machine_s:
                    next_machine_s = now_s + MACHINE_S
                    self._note(machine=gauge.read())
        except BaseException as error:
            log.debug("session failed", exc_info=True)
            self.error = error
        finally:
            logging.getLogger("app").removeHandler(handler)
            self._end()

    def _end(self) -> None:
        self.feed.stop()
        for engine in (self._candidate, self._engine):
            if engine is not None:
                engine.dismiss()
        if self._engine is not None:
            self._retire(self._engine)
        if self._candidate is not None:
            self._candidate.close()
        self._recording.finish()
        for sink in self._kept:
            sink.finish()
            self.error = self.error or sink.error
        self._note(ended=True)

    def _follow_wishes(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            tune, self._tune = self._tune, False
        if tune and self._score is not None and self._iou is not None:
            self._note(score=self._score, iou=self._iou)
            tuned = self._engine is not None and self._engine.tune(self._score, self._iou)
            if not tuned and wanted is None:
                wanted = self._state.building or self._state.running
            elif self._candidate is not None and wanted is None:
                wanted = self._candidate.choice  # it is being built with the old ones
        if self._cancelled and wanted is None and self._candidate is not None:
            self._candidate.dismiss()
            self._candidate = None
            self._note(building=None)
        self._cancelled = False
        if wanted is not None:
            self._build(wanted)

    def _build(self, choice: Choice) -> None:
        if self._candidate is not None:
            self._candidate.dismiss()  # nobody wants it any more; it ends by itself
        same_model = self._state.running is not None and self._state.running.model == choice.model
        first = self._state.running is None
        score, iou = (self._score, self._iou) if first or same_model else (None, None)
        done = sum(each.processed for each in self._past)
        if self._engine is not None and self._engine.pipeline is not None:
            done += self._engine.pipeline.counts().processed
        limit = self._config.max_frames
        self._candidate = Engine(
            choice,
            lambda: self._prepare(choice, score, iou),
            self._outlets,
            max_age_ms=self._config.max_age_ms,
            max_frames=None if limit is None else max(1, limit - done),
            stall_s=self._config.read_timeout_s * 1.5,
        )
        self._note(building=choice, building_since_ns=self._candidate.since_ns, building_text="")

    def _watch_candidate(self) -> None:
        candidate = self._candidate
        if candidate is None:
            return
        error = candidate.error()
        if error is not None:
            self._candidate = None
            self._note(building=None)
            self._refused(candidate.choice, error)
        elif candidate.is_built and candidate.prepared is not None:
            self._candidate = None
            self._take_over(candidate, candidate.prepared)

    def _refused(self, choice: Choice, error: BaseException) -> None:
        text = told(error)
        if self._engine is not None:
            self.tell(f"{text} — going on with {self._state.model_name}", "error")
        elif choice != (self._state.running or self._first):
            self.tell(f"{text} — back to what was chosen before", "error")
            self._build(self._state.running or self._first)
        else:
            self._fail(error)

    def _take_over(self, engine: Engine, prepared: Prepared) -> None:
        """Between two frames: the old engine delivers what it has in flight, the new one begins."""
        old = self._engine
        if old is not None:
            self.feed.remove(old.tap)
            self._retire(old)
        self._engine = engine
        self._score, self._iou = prepared.score, prepared.iou
        assert engine.pipeline is not None
        self._note(
            running=engine.choice,
            model_name=prepared.model_name,
            labels=prepared.labels,
            engine_text=engine.pipeline.backend_description,
            score=prepared.score,
            iou=prepared.iou,
            default_score=prepared.default_score,
            default_iou=prepared.default_iou,
            building=None,
            failure="",
        )
        self.error = None
        self.feed.add(engine.tap)

    def _watch_engine(self) -> None:
        """An engine that has ended by itself: by a fault, or because the run is at its end."""
        engine = self._engine
        if engine is None or not engine.is_done:
            if engine is not None and engine.pipeline is not None:
                text = engine.pipeline.backend_description
                if text != self._state.engine_text:
                    self._note(engine_text=text)
            return
        error = engine.error()
        self.feed.remove(engine.tap)
        self._engine = None
        if engine.pipeline is not None:
            self._past.append(engine.pipeline.stats())
        if error is None:  # --max-frames, or the reader of --json - left
            self._stop.set()
        elif isinstance(error, DeviceError) or engine.choice.engine not in ("cpu", "auto"):
            self.tell(f"{told(error)} — going on with the CPU engine", "error")
            self.error = error
            self._build(replace(engine.choice, engine="cpu"))
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._note(failure=told(error), figures=replace(self._state.figures, fps=0.0))

    def _watch_end(self) -> None:
        """Without ``stay`` the run is over when its recording is."""
        feed = self.feed.state()
        if self._stay or feed.phase not in ("ended", "failed"):
            return
        if feed.phase == "failed":
            self.error = self.error or SourceError(feed.error)
        if self._engine is not None:
            self.feed.remove(self._engine.tap)  # what it holds is delivered; then it ends
        else:
            self._stop.set()

    def _retire(self, engine: Engine) -> None:
        engine.close()
        if engine.pipeline is not None:
            self._past.append(engine.pipeline.stats())

    def _figures(self) -> Figures:
        parts = list(self._past)
        now = None
        if self._engine is not None and self._engine.pipeline is not None:
            now = self._engine.pipeline.counts()
            parts.append(now)
        total = total_of(parts)
        if total is None:
            return Figures()
        p50, p95 = self._recent.ages_ms()
        return Figures(
            fps=now.fps if now else 0.0,
            capture_fps=now.capture_fps if now else 0.0,
            age_p50_ms=p50,
            age_p95_ms=p95,
            stages_ms=self._recent.stages_ms(),
            captured=total.captured,
            processed=total.processed,
            dropped=total.dropped,
        )

    def _hear(self, text: str) -> None:
        if self._state.building is not None:
            self._note(building_text=text)

    def _note(self, **changes: object) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)  # type: ignore[arg-type]
