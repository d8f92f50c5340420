"""One engine comes to life beside another and takes over.

All of it on the session's thread, but for what says "any thread".
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from time import monotonic_ns
from types import TracebackType

from ..config import Config
from ..core.errors import DeviceError, KestrelError
from ..core.interfaces import Backend, BackendFactory, Canary, Sink
from ..pipeline.degrade import Ladder
from ..pipeline.handoff import Note, Policy
from ..pipeline.pipeline import Pipeline
from .figures import Tally
from .source_player import Feed, Tap
from .state import Board, Choice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is on this machine and fits its manifest, and what runs it."""

    factory: BackendFactory
    model_name: str
    labels: Sequence[str]
    score: float
    iou: float
    default_score: float
    default_iou: float
    canary: Canary | None = None
    make_ladder: Callable[[Callable[[str], None]], Ladder] | None = None


class Engine:
    """A model on an engine: prepared, built on its own pipeline thread, then turned on.

    Preparing may fetch weights, building may compile: both may take minutes, and neither holds up
    who asked. ``tap`` is to be added to the feed once ``is_built``.
    """

    def __init__(
        self,
        choice: Choice,
        prepare: Callable[[], Prepared],
        sink: Sink,
        *,
        note: Note,
        max_age_ms: float | None,
        max_frames: int | None,
        stall_s: float,
    ) -> None:
        self.choice, self.since_ns = choice, monotonic_ns()
        self.tap = Tap()
        self.prepared: Prepared | None = None
        self.pipeline: Pipeline | None = None
        self._prepare, self._sink, self._note = prepare, sink, note
        self._limits = {"max_age_ms": max_age_ms, "max_frames": max_frames, "stall_s": stall_s}
        self._error: BaseException | None = None
        self._backend: Backend | None = None
        self._dismissed = threading.Event()
        self._thread = threading.Thread(target=self._build, name="prepare", daemon=True)
        self._thread.start()

    @property
    def is_built(self) -> bool:
        """Whether it could take over now."""
        return self._backend is not None and self.error() is None

    @property
    def is_done(self) -> bool:
        """Whether it has ended, by an error or as it was told to."""
        return self._error is not None or (self.pipeline is not None and self.pipeline.wait(0))

    def error(self) -> BaseException | None:
        """What ended it; asked of a pipeline only once that has ended."""
        if self._error is None and self.pipeline is not None and self.pipeline.wait(0):
            self.tap.end()  # its capture thread may still wait to be turned on
            try:
                self.pipeline.join()
            except BaseException as error:
                self._error = error
        return self._error

    def tune(self, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; False where it must be built anew."""
        pipeline, prepared = self.pipeline, self.prepared
        if pipeline is None or prepared is None:
            return False
        tuned = pipeline.tune(score=score, iou=iou, max_age_ms=max_age_ms)
        if tuned and prepared.canary is not None:
            prepared.canary.tune(score=score, iou=iou)
        return tuned

    def dismiss(self) -> None:
        """End it, in order, on its own threads; returns at once. Frames in flight are delivered."""
        self._dismissed.set()
        self.tap.end()
        if self.pipeline is not None:
            self.pipeline.stop()

    def close(self) -> None:
        """``dismiss``, and wait for it, within limits."""
        self.dismiss()
        if self.pipeline is not None:
            try:
                self.pipeline.join()
            except BaseException as error:  # it was on its way out anyway
                log.debug("engine that was dismissed: %s", error)

    def _build(self) -> None:
        try:
            prepared = self._prepare()
            self.prepared = prepared
            pipeline = Pipeline(
                self.tap,
                lambda wake: _Noted(prepared.factory(wake), self._built),
                [self._sink],
                labels=prepared.labels,
                policy=Policy.LATEST,
                canary=prepared.canary,
                note=self._note,
                make_ladder=prepared.make_ladder,
                **self._limits,  # type: ignore[arg-type]
            )
            if not self._dismissed.is_set():
                self.pipeline = pipeline  # first: it may be up before the next line
                pipeline.start()
                if self._dismissed.is_set():
                    self.dismiss()
        except BaseException as error:
            self._error = error

    def _built(self, backend: Backend) -> None:
        self._backend = backend


class _Noted:
    """A backend's context that says when the backend is up."""

    def __init__(
        self, inner: AbstractContextManager[Backend], built: Callable[[Backend], None]
    ) -> None:
        self._inner, self._built = inner, built

    def __enter__(self) -> Backend:
        backend = self._inner.__enter__()
        self._built(backend)
        return backend

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._inner.__exit__(kind, error, trace)


Prepare = Callable[[Choice, float | None, float | None], Prepared]


class Engines:
    """One runs, another may be built beside it; it takes over once it is up.

    ``error`` is why nothing runs; ``is_over`` says that the run has come to its end by itself.
    """

    def __init__(
        self,
        prepare: Prepare,
        *,
        first: Choice,
        config: Config,
        note: Note,
        feed: Feed,
        sink: Sink,
        board: Board,
        tally: Tally,
    ) -> None:
        self._prepare, self._config, self._note = prepare, config, note
        self._feed, self._sink, self._board, self._tally = feed, sink, board, tally
        self._lock = threading.Lock()
        self._first = first
        self._wanted: Choice | None = first
        self._score, self._iou = config.score, config.iou
        self._max_age_ms = config.max_age_ms
        self._tune = self._cancelled = False
        self._engine: Engine | None = None
        self._candidate: Engine | None = None
        self.error: BaseException | None = None
        self.is_over = False

    def choose(self, choice: Choice) -> None:
        """Change to this model and engine; any thread."""
        with self._lock:
            self._wanted = choice

    def cancel(self) -> None:
        """Give up what is being built beside the running engine; any thread."""
        self._cancelled = True

    def set_thresholds(self, score: float, iou: float) -> None:
        """From the next frame on, where the engine can; else it is built anew; any thread."""
        with self._lock:
            self._score, self._iou, self._tune = score, iou, True

    def set_max_age(self, max_age_ms: float | None) -> None:
        """Of this engine and all that follow; any thread."""
        with self._lock:
            self._max_age_ms, self._tune = max_age_ms, True

    def follow(self) -> None:
        """Do what was wished for, and see what has become of what runs and what is built."""
        self._follow_wishes()
        self._watch_candidate()
        self._watch_engine()

    def run_out(self) -> None:
        """No more frames will come: what is in flight is delivered, and then it is over."""
        if self._engine is not None:
            self._feed.remove(self._engine.tap)
        else:
            self.is_over = True

    def end(self) -> None:
        """End all of them, within limits."""
        for engine in (self._candidate, self._engine):
            if engine is not None:
                engine.dismiss()
        if self._engine is not None:
            self._engine.close()
            self._tally.end()
        if self._candidate is not None:
            self._candidate.close()

    def _follow_wishes(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            tune, self._tune = self._tune, False
            score, iou, max_age_ms = self._score, self._iou, self._max_age_ms
        state = self._board.state
        if tune and score is not None and iou is not None:
            self._board.note(score=score, iou=iou)
            tuned = self._engine is not None and self._engine.tune(score, iou, max_age_ms)
            if not tuned and wanted is None:
                wanted = state.building or state.running
            elif self._candidate is not None and wanted is None:
                wanted = self._candidate.choice  # it is being built with the old ones
        if self._cancelled and wanted is None and self._candidate is not None:
            self._candidate.dismiss()
            self._candidate = None
            self._board.note(building=None)
        self._cancelled = False
        if wanted is not None:
            self._build(wanted)

    def _build(self, choice: Choice) -> None:
        if self._candidate is not None:
            self._candidate.dismiss()  # nobody wants it any more; it ends by itself
        running = self._board.state.running
        same_model = running is None or running.model == choice.model
        score, iou = (self._score, self._iou) if same_model else (None, None)
        limit = self._config.max_frames
        self._candidate = Engine(
            choice,
            lambda: self._prepare(choice, score, iou),
            self._sink,
            note=self._note,
            max_age_ms=self._max_age_ms,
            max_frames=None if limit is None else max(1, limit - self._tally.processed),
            stall_s=self._config.read_timeout_s * 1.5,
        )
        since_ns = self._candidate.since_ns
        self._board.note(building=choice, building_since_ns=since_ns, building_text="")

    def _watch_candidate(self) -> None:
        candidate = self._candidate
        if candidate is None:
            return
        error = candidate.error()
        if error is not None:
            self._candidate = None
            self._board.note(building=None)
            self._refused(candidate.choice, error)
        elif candidate.is_built and candidate.prepared is not None:
            self._candidate = None
            self._take_over(candidate, candidate.prepared)

    def _refused(self, choice: Choice, error: BaseException) -> None:
        text, state = told(error), self._board.state
        if self._engine is not None:
            self._board.tell(f"{text} — going on with {state.model_name}", "error")
        elif choice != (state.running or self._first):
            self._board.tell(f"{text} — back to what was chosen before", "error")
            self._build(state.running or self._first)
        else:
            self._fail(error)

    def _take_over(self, engine: Engine, prepared: Prepared) -> None:
        """Between two frames: the old engine delivers what it has in flight, the new one begins."""
        old = self._engine
        if old is not None:
            self._feed.remove(old.tap)
            old.close()
            self._tally.end()
        self._engine = engine
        self._score, self._iou = prepared.score, prepared.iou
        assert engine.pipeline is not None
        self._tally.begin(engine.pipeline)
        self._board.note(
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
        self._feed.add(engine.tap)

    def _watch_engine(self) -> None:
        """An engine that has ended by itself: by a fault, or because the run is at its end."""
        engine = self._engine
        if engine is None or engine.pipeline is None:
            return
        if not engine.is_done:
            text = engine.pipeline.backend_description
            if text != self._board.state.engine_text:
                self._board.note(engine_text=text)
            return
        error = engine.error()
        self._feed.remove(engine.tap)
        self._engine = None
        self._tally.end()
        if error is None:  # --max-frames, or the reader of --json - left
            self.is_over = True
        elif isinstance(error, DeviceError) or engine.choice.engine not in ("cpu", "auto"):
            self._board.tell(f"{told(error)} — going on with the CPU engine", "error")
            self.error = error
            self._build(replace(engine.choice, engine="cpu"))
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._board.note(failure=told(error))


def told(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, KestrelError):
        return " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {error} (KESTREL_LOG=DEBUG shows where)"
