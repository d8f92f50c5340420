"""Which engine makes the results, and what happens when another is wanted, or it fails?

All of it on the session's thread, but for what says "any thread".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from app.config import Config
from app.errors import DeviceError, KestrelError
from app.handoff import Note
from app.interfaces import Sink
from app.session.board import Board
from app.session.engine import Engine, Prepared
from app.session.feed import Feed
from app.session.tally import Tally
from app.session_state import Choice

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
