"""What a service puts around a run: canary, reload, flight recorder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..config import Config, ConfigFile
from ..core.credentials import mask_credentials
from ..core.errors import ConfigError, KestrelError
from ..core.frame import Frame, bgr_pixels
from ..models.cache import cache_dir
from ..models.manifest import Model, ModelSpec
from ..ops.flight import FlightRecorder
from ..ops.selftest import SCORE, GoldenFrameCheck, KnownAnswer, answers
from ..ops.systemd import Reload, Supervised, plan_reload
from ..pipeline.handoff import Policy
from ..sources.uri import make_source
from .engines import backend_factory, reported, spec_computed, thresholds
from .filters import RunFilters, check_filters
from .tracking import ruled_actions
from .zones import SHAPES, RunShapes

if TYPE_CHECKING:
    from .cameras import RunSources

log = logging.getLogger(__name__)

KNOWN_FRAME = 190  # of sample: two people, each with a face


def make_canary(
    config: Config, model: Model, inferred: Callable[[], None]
) -> GoldenFrameCheck | None:
    """The known picture, if it was asked for; its boxes are computed now, on the CPU.

    ``inferred`` is called after each good answer.
    """
    if config.canary_s is None:
        return None
    pixels = known_pixels()
    score, iou, _ = reported(config, model.spec).values()
    spec = replace(spec_computed(config.engine, model.spec), score=score, iou=iou)
    return GoldenFrameCheck(
        pixels,
        every_s=config.canary_s,
        threshold=score,
        iou=iou,
        expected=known_boxes(replace(model, spec=spec), pixels),
        on_answer=inferred,
    )


def known_boxes(model: Model, pixels: NDArray[np.uint8]) -> Sequence[KnownAnswer] | None:
    """What the model finds on the reference engine, ONNX Runtime on the CPU.

    So an engine that is wrong from its first frame on is noticed too, whichever the model. None,
    with a warning, where the CPU cannot run it: then the first answer is what it is held to.
    """
    try:
        found = boxes_on(Config(engine="cpu", workers=1), model, pixels)
    except KestrelError as fault:
        log.warning("canary: no reference, its first answer is taken for right: %s", fault)
        return None
    if not any(one.score >= model.spec.score + SCORE for one in found):
        log.warning(
            "canary: %s finds nothing it is sure of in the known picture, so an engine that no "
            "longer finds anything goes unnoticed; only ghosts are",
            model.spec.name,
        )
    log.info("canary: the known picture gives %d boxes; it must go on to do so", len(found))
    return found


def boxes_on(config: Config, model: Model, pixels: NDArray[np.uint8]) -> list[KnownAnswer]:
    """What the model finds in one picture on the engine of ``config``. Raises KestrelError."""
    with backend_factory(config, model, Policy.LATEST)(lambda: None) as backend:
        backend.slots[0].enqueue([Frame(pixels, -1, 0)])
        return answers(backend.slots[0].collect()[0][0])


def known_pixels() -> NDArray[np.uint8]:
    source = make_source("sample:", realtime=False)
    source.open()
    try:
        while (frame := source.read(1.0)) is None or frame.index < KNOWN_FRAME:
            pass
        pixels: NDArray[np.uint8] = bgr_pixels(frame).copy()
        return pixels
    finally:
        source.close()


def make_recorder(config: Config, model_name: str, name: str = "") -> FlightRecorder:
    """The flight recorder of a source: always on, in memory; with ``--trace`` in a file."""
    header = {
        "source": None if config.source is None else mask_credentials(config.source),
        **({"name": name} if name else {}),
        "model": model_name,
        "engine": config.engine,
        "max_age_ms": config.max_age_ms,
        "tracks": config.tracks,
    }
    path = None if config.trace is None else Path(config.trace)
    file = f"last-{name}.jsonl" if name else "last.jsonl"
    return FlightRecorder(path, header, last_words=cache_dir("flight") / file)


class Limited(Protocol):
    """A pipeline, or all of them that stand behind a window."""

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; False: there is no engine yet."""


OF_SOURCES = ("sources", "privacy", "blur_faces")


class Reloader:
    """Takes up what can be of another configuration; what is wrong changes nothing."""

    def __init__(
        self,
        config: Config,
        run: Limited,
        spec: ModelSpec,
        supervised: Supervised,
        *,
        filters: RunFilters,
        shapes: RunShapes,
        keep: Callable[[Config], None],
        sources: RunSources | None = None,
    ) -> None:
        """``keep``: gives outputs other limits of age and size.

        ``sources``: None where they stay, with what is private in them.
        """
        self.config = config  # in force
        self._filters, self._shapes, self._sources, self._keep = filters, shapes, sources, keep
        self._run, self._spec, self._supervised = run, spec, supervised
        self._lock = threading.Lock()

    def read_again(self, file: ConfigFile) -> None:
        """On SIGHUP, on the main thread."""
        self._supervised.reloading(lambda: self._read_again(file))

    def _read_again(self, file: ConfigFile) -> None:
        try:
            plan = self.apply(file.read())
        except ConfigError as fault:
            log.error("configuration read again, and nothing changed: %s", fault)
        else:
            log.info("%s", plan.line())

    def apply(self, new: Config) -> Reload:
        """From the next frame on, what of it can be; any thread.

        Raises ConfigError, and then nothing has changed.
        """
        with self._lock:
            plan = plan_reload(self.config, new)
            kept = set(plan.changed) & self._kept(plan.config)
            if kept:
                old = {name: getattr(self.config, name) for name in kept}
                changed = tuple(name for name in plan.changed if name not in kept)
                restart = (*plan.needs_restart, *sorted(kept))
                plan = Reload(replace(plan.config, **old), changed, restart)
            config, spec = plan.config, self._spec
            check_filters(config, spec.labels, spec.name)
            reshape = self._shapes.planned(config, plan.changed)
            exchange = None if self._sources is None else self._sources.planned(self.config, config)
            score, iou = thresholds(config, spec)
            tuned = not {e for e in plan.changed if "." not in e} - {*SHAPES} or self._run.tune(
                score=score, iou=iou, max_age_ms=config.max_age_ms
            )
            if not tuned:
                raise ConfigError("the engine does not run yet; try again")
            reshape()
            self._filters.reload(config)
            self._keep(config)
            old = {name: getattr(self.config, name) for name in OF_SOURCES}
            self.config = replace(config, **old)
            if exchange is not None:
                exchange()  # may fail, and then a restart helps
            self.config = config
            return plan

    def _kept(self, new: Config) -> set[str]:
        """The keys of which this run cannot take up a change."""
        sources = self._sources
        kept = set(OF_SOURCES) if sources is None else sources.refused(self.config, new)
        # outputs are made for what rules name
        return kept | {"rule"} if ruled_actions(new) != ruled_actions(self.config) else kept
