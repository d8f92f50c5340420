"""Changes of model and engine: one is built beside the running one, and takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic_ns

from ..config import Config
from ..core.errors import DeviceError, KestrelError
from ..core.interfaces import BackendFactory, Canary
from ..pipeline.degrade import DegradationPolicy
from ..pipeline.engine import EngineSpec, EngineWorker
from ..pipeline.pipeline import Pipeline
from .state import Choice, StateStore


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
    make_ladder: Callable[[Callable[[str], None]], DegradationPolicy] | None = None


Prepare = Callable[[Choice, float | None, float | None], Prepared]


@dataclass(slots=True)
class _Build:
    """A choice, and the engine that it has become."""

    choice: Choice
    worker: EngineWorker | None = None
    prepared: Prepared | None = None

    def error(self) -> BaseException | None:
        """What ended it, once it has let go of everything."""
        worker = self.worker
        return None if worker is None or worker.is_alive() else worker.error


class EngineSwitch:
    """Builds what was chosen, tells what becomes of it, and goes on without what fails.

    ``follow`` and what is private are called on the session's thread, but for what says otherwise.
    ``error`` is why nothing runs. ``show_again`` is called when a frame that stands would be seen
    differently.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        prepare: Prepare,
        *,
        first: Choice,
        config: Config,
        store: StateStore,
        show_again: Callable[[], None],
    ) -> None:
        self._pipeline, self._prepare, self._store = pipeline, prepare, store
        self._show_again = show_again
        self._lock = threading.Lock()
        self._first = first
        self._wanted: Choice | None = first
        self._score, self._iou = config.score, config.iou
        self._tune = self._cancelled = False
        self._given_up: Choice | None = None  # an engine that was lost: never gone back to
        self._running: _Build | None = None
        self._building: _Build | None = None
        self.error: BaseException | None = None

    def choose(self, choice: Choice) -> None:
        """Change to this model and engine; any thread."""
        with self._lock:
            self._wanted = choice

    def cancel(self) -> None:
        self._cancelled = True

    def set_thresholds(self, score: float, iou: float) -> None:
        """From the next frame on, where the engine can; else it is built anew; any thread."""
        with self._lock:
            self._score, self._iou, self._tune = score, iou, True

    def follow(self) -> None:
        """Do what was wished for, and see what has become of what runs and what is built."""
        self._follow_wishes()
        with self._lock:
            building, running = self._building, self._running
        if building is not None and (error := building.error()) is not None:
            self._building = None
            self._store.note(building=None)
            self._refused(building.choice, error)
        elif running is not None and (error := running.error()) is not None:
            self._running = None
            self._lost(running.choice, error)

    def _follow_wishes(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, None
            tune, self._tune = self._tune, False
            score, iou, building = self._score, self._iou, self._building
        state = self._store.state
        if tune and score is not None and iou is not None:
            self._store.note(score=score, iou=iou)
            tuned = self._pipeline.set_thresholds(score=score, iou=iou)
            if not tuned and wanted is None:
                wanted = state.building or state.running
            elif building is not None and wanted is None:
                wanted = building.choice  # it is being built with the old ones
            if tuned:
                self._show_again()
        if self._cancelled and wanted is None and building is not None:
            self._pipeline.cancel_swap()
            self._building = None
            self._store.note(building=None)
        self._cancelled = False
        if wanted is not None:
            self._build(wanted)

    def _build(self, choice: Choice) -> None:
        running = self._store.state.running
        same_model = running is None or running.model == choice.model
        score, iou = (self._score, self._iou) if same_model else (None, None)
        build = _Build(choice)

        def prepare() -> EngineSpec:
            build.prepared = it = self._prepare(choice, score, iou)
            return EngineSpec(it.factory, it.labels, it.score, it.iou, it.canary, it.make_ladder)

        with self._lock:
            self._building = build
            self._store.note(building=choice, building_since_ns=monotonic_ns(), building_text="")
        worker = self._pipeline.swap_engine(prepare, lambda worker: self._took_over(build, worker))
        build.worker = worker

    def _took_over(self, build: _Build, worker: EngineWorker) -> None:
        """On the engine's thread, before its first frame."""
        prepared = build.prepared
        assert prepared is not None
        with self._lock:
            build.worker, self._running = worker, build
            was_awaited = self._building is build
            if was_awaited:
                self._building = None
            if not self._tune:  # else they were set meanwhile, and are applied at the next look
                self._score, self._iou = prepared.score, prepared.iou
            self.error = self._given_up = None
            self._store.note(
                running=build.choice,
                model_name=prepared.model_name,
                labels=prepared.labels,
                engine_text=worker.description,
                score=prepared.score,
                iou=prepared.iou,
                default_score=prepared.default_score,
                default_iou=prepared.default_iou,
                failure="",
                **({"building": None} if was_awaited else {}),
            )
        self._show_again()

    def _refused(self, choice: Choice, error: BaseException) -> None:
        text, state = told(error), self._store.state
        before = state.running or self._first
        if self._running is not None:
            self._store.tell(f"{text} — going on with {state.model_name}", "error")
        elif before not in (choice, self._given_up):
            self._store.tell(f"{text} — back to what was chosen before", "error")
            self._build(before)
        else:
            self._fail(error)

    def _lost(self, choice: Choice, error: BaseException) -> None:
        if isinstance(error, DeviceError) or choice.engine not in ("cpu", "auto"):
            self._store.tell(f"{told(error)} — going on with the CPU engine", "error")
            self.error, self._given_up = error, choice
            self._build(replace(choice, engine="cpu"))
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._store.note(failure=told(error))


def told(error: BaseException) -> str:
    if isinstance(error, KestrelError):
        return " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {error} (KESTREL_LOG=DEBUG shows where)"
