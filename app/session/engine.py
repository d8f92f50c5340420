"""How does one engine come to life beside another, and take over?"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic_ns
from types import TracebackType

from app.handoff import Note, Policy
from app.interfaces import Backend, BackendFactory, Canary, Sink
from app.ladder import Ladder
from app.pipeline import Pipeline
from app.session.tap import Tap
from app.session_state import Choice

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
            if prepared.canary is not None:
                prepared.canary.on_gpu = lambda: not pipeline.backend_description.startswith("cpu")
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
