"""A worker of an archive: a warm detector, from a row of the manifest to its results."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from .. import __version__
from ..config import Config
from ..core.errors import ConfigError, KestrelError, SourceEnded, SourceError, exhausted
from ..core.frame import Frame
from ..core.interfaces import Seekable, Slot
from ..models.manifest import Model
from ..pipeline.handoff import Policy
from ..runtime.engines import backend_factory, choose_model
from ..runtime.inputs import privacy_of, source_options
from ..sources.uri import make_source
from .clips import Row
from .found import Found
from .results import file_names, write_results

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Of a part: the ``files`` of a clip that is whole, else what was ``found``, or the ``fault``
    for which its clip is set aside."""

    fault: str = ""
    found: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    frames: int = 0


class Worker:
    """Keeps its network from row to row. What it gives depends on the row and ``config`` alone.

    ``version``: the driver's; another one here could give other results, which ConfigError says.
    """

    def __init__(self, config: Config, version: str = __version__) -> None:
        if version != __version__:
            raise ConfigError(
                f"this worker has Kestrel {__version__}, the driver {version}: install the same"
            )
        self._config = config
        self._model: Model = choose_model(config)
        self._life = ExitStack()
        backend = self._life.enter_context(
            backend_factory(config, self._model, Policy.LOSSLESS)(lambda: None)
        )
        self._slots = backend.slots
        self._privacy = privacy_of(config)

    def __call__(self, part: Row) -> Outcome:
        """Faults of the recording are told, those of model and machine raised (KestrelError)."""
        try:
            found = self._detect(part)
        except SourceError as fault:
            return Outcome(str(fault))
        if part.of > 1:
            return Outcome(found=found.to_bytes(), frames=len(found.frames))
        out = {name: io.BytesIO() for name in file_names()}
        count = write_results(self._config, self._model.spec, part.clip.name, [found], out)
        files = {name: each.getvalue() for name, each in out.items()}
        return Outcome(files=files, frames=count)

    def _detect(self, part: Row) -> Found:
        options = replace(source_options(self._config), decode_threads=1)
        isolate = self._config.isolate
        source = make_source(part.clip.uri, realtime=False, isolate=isolate, options=options)
        with closing(source):
            info = source.open()
            if info.live:
                raise SourceError(f"{info.uri} is live; an archive is of recordings")
            made = Found(info)
            if part.start_ns:
                assert isinstance(source, Seekable), "only what can be moved in is cut"
                source.seek(part.start_ns)
            running: deque[tuple[Frame, Slot]] = deque()
            idle = deque(self._slots)

            def collect() -> None:
                frame, slot = running.popleft()
                (found, _), *_ = slot.collect()
                idle.append(slot)
                made.frames.append((frame.media_ns or 0, *frame.wh_px, found))
                made.sure = made.sure and (part.of == 1 or found.masks is None)

            try:
                while made.sure:
                    try:
                        frame = source.read(self._config.read_timeout_s)
                    except SourceEnded:
                        break
                    if frame is None or (frame.media_ns or 0) < part.start_ns:
                        continue
                    if part.end_ns is not None and (frame.media_ns or 0) >= part.end_ns:
                        break
                    if self._privacy is not None:
                        frame = self._privacy.hide_areas(frame)
                    if not idle:
                        collect()
                    running.append((frame, idle.popleft()))
                    running[-1][1].enqueue([frame])
                while running:
                    collect()
            finally:
                for _, slot in running:  # after a fault: idle before the next row
                    with suppress(KestrelError):
                        slot.collect()
            # a clock that lost its way counts frames, and a part cannot know how many there were
            made.sure = made.sure and (part.of == 1 or bool(getattr(source, "can_rest", False)))
            return made


class Answerer:
    """A worker that is made with its first row, and whose every fault is an answer: one of a clip
    is in its outcome, one that all rows would meet is given back."""

    def __init__(self, config: Config, version: str = __version__) -> None:
        self._config, self._version = config, version
        self._worker: Worker | None = None

    def __call__(self, part: Row) -> Outcome | KestrelError:
        """For the driver to raise, where it is an error."""
        try:
            if self._worker is None:
                self._worker = Worker(self._config, self._version)
            return self._worker(part)
        except KestrelError as fault:
            return fault
        except Exception as error:
            log.debug("%s", part.clip.name, exc_info=True)
            return exhausted(error) or Outcome(f"internal error: {type(error).__name__}: {error}")


_warm: Answerer | None = None


def warm(config: Config, level: int) -> None:
    """In a process of the pool: it ends with the process that started it."""
    global _warm
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the driver stops in order
    logging.getLogger().setLevel(max(level, logging.WARNING))
    parent: Any = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _warm = Answerer(config)


def work(part: Row) -> Outcome | KestrelError:
    """In a process of the pool."""
    assert _warm is not None, "the pool calls warm first"
    return _warm(part)
