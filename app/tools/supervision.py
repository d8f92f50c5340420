"""What of the service is put around a run: known picture, reload, the word to the supervisor?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.cache import cache_dir
from app.config import Config
from app.credentials import mask_credentials
from app.errors import ConfigError
from app.flight import FlightRecorder
from app.model_spec import ModelSpec
from app.service import KnownAnswer, KnownPicture, Supervised, plan_reload
from app.sources.uri import make_source

log = logging.getLogger(__name__)

KNOWN_FRAME = 190  # of sample: two people, each with a face, all of them sure
# what kestrel_320 finds there: python -m app replay sample: --json -
KNOWN_BOXES = {
    "kestrel_320": (
        KnownAnswer(1, 0.913, (500.4, 102.2, 575.3, 190.4)),
        KnownAnswer(0, 0.896, (429.9, 72.4, 634.9, 294.2)),
        KnownAnswer(1, 0.871, (296.4, 106.8, 333.8, 150.8)),
        KnownAnswer(0, 0.808, (221.3, 93.1, 383.4, 290.4)),
    )
}


def make_canary(
    config: Config, spec: ModelSpec, inferred: Callable[[], None]
) -> KnownPicture | None:
    """The known picture, if it was asked for; ``inferred`` is called after each good answer."""
    if config.canary_s is None:
        return None
    score = spec.score if config.score is None else config.score
    iou = spec.iou if config.iou is None else config.iou
    holds = score >= spec.score and iou == spec.iou  # with others it shows what is not recorded
    return KnownPicture(
        known_pixels(),
        every_s=config.canary_s,
        threshold=score,
        iou=iou,
        expected=KNOWN_BOXES.get(spec.name) if holds else None,
        on_answer=inferred,
    )


def known_pixels() -> NDArray[np.uint8]:
    """The frame of the bundled clip."""
    source = make_source("sample:", realtime=False)
    source.open()
    try:
        while (frame := source.read(1.0)) is None or frame.index < KNOWN_FRAME:
            pass
        pixels: NDArray[np.uint8] = frame.pixels.copy()
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
    }
    path = None if config.trace is None else Path(config.trace)
    file = f"last-{name}.jsonl" if name else "last.jsonl"
    return FlightRecorder(path, header, last_words=cache_dir("flight") / file)


class Limited(Protocol):
    """A pipeline, or all of them that stand behind a window."""

    def tune(self, *, score: float, iou: float, max_age_ms: float | None) -> bool:
        """Other limits from the next frame on; False: there is no engine yet."""


class Reloader:
    """Reads the configuration again and takes up what can be; what is wrong changes nothing.

    ``canary``: one that the run itself does not tell of new thresholds.
    """

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        run: Limited,
        spec: ModelSpec,
        supervised: Supervised,
        canary: KnownPicture | None = None,
    ) -> None:
        self._config, self._read, self._spec = config, read, spec
        self._run, self._supervised, self._canary = run, supervised, canary

    def __call__(self) -> None:
        """On SIGHUP, on the main thread."""
        self._supervised.reloading(self._apply)

    def _apply(self) -> None:
        try:
            plan = plan_reload(self._config, self._read())
        except ConfigError as fault:
            log.error("configuration read again, and nothing changed, as it is wrong: %s", fault)
            return
        config, spec = plan.config, self._spec
        score = spec.score if config.score is None else config.score
        iou = spec.iou if config.iou is None else config.iou
        if plan.changed and not self._run.tune(score=score, iou=iou, max_age_ms=config.max_age_ms):
            log.error("configuration read again, but the engine does not run yet: try again")
            return
        if plan.changed and self._canary is not None:
            self._canary.tune(score=score, iou=iou)
        self._config = config
        log.info("%s", plan.line())
