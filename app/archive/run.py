"""The driver of an archive: what is to do, what is done, what is set aside, what is left."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..config import Config, StoreOptions
from ..core.credentials import mask_text
from ..core.errors import ConfigError, SinkError, SourceError
from ..core.events import Event
from ..core.interfaces import GPU_ENGINES
from ..core.schemes import is_network, scheme_of
from ..core.stats import OutputMeter
from ..models.manifest import Model
from ..models.store import list_models, locate
from ..ops.signals import noting
from ..pipeline.handoff import Policy
from ..runtime.engines import backend_factory, choose_model
from ..runtime.filters import check_filters
from ..runtime.inputs import check_privacy
from ..runtime.tracking import check_tracking
from ..sinks.json_lines import quoted, unwritable
from ..sinks.store import EventStore
from .clips import Clip, Row, clips_of, find_clips, parts_of
from .found import Found, is_whole
from .pools import Pool, make_pool, split_address
from .results import EVENTS, PARQUET, archive_config, file_names, write_results

log = logging.getLogger(__name__)

TOLD_S = 10.0  # between lines of progress where there is no terminal
DRAWN_S = 0.5
STORED_S = 60.0  # what the store gets at the end to write what waits


class ArchivePlan(NamedTuple):
    """``where``: a folder or a list. ``part_s``: seconds of a part of a long clip. ``gpu_share``:
    of a GPU, that a worker takes."""

    where: str
    out: Path
    cluster: str = "local"
    part_s: float = 300.0
    processes: int | None = None
    gpu_share: float | None = None


def check_archive(config: Config, plan: ArchivePlan) -> int:
    """``--check``: what can be said without a worker; prints one line."""
    clips, _ = _prepared(config, plan, fetch=False)
    there = plan.out.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SinkError(f"--out {plan.out}: cannot write in {there}; name another folder")
    for clip in clips:
        if not is_network(clip.uri) and scheme_of(clip.uri) is None and not Path(clip.uri).exists():
            log.warning("%s is not there; it would be set aside", mask_text(clip.uri))
    print(f"sound: {clips_of(len(clips))}, {config.model or 'the default model'}, {plan.cluster}")
    return 0


def run_archive(config: Config, plan: ArchivePlan) -> int:
    """All clips that have no results yet. Raises SourceError at the end where some are set aside.

    A signal stops it in order, and it may be killed: the next run goes on with what is left.
    """
    clips, model = _prepared(config, plan, fetch=True)
    config = archive_config(config)
    gpu = config.engine in GPU_ENGINES
    gpus = plan.gpu_share if plan.gpu_share is not None else float(gpu)
    cores = len(os.sched_getaffinity(0)) // (config.threads or 1)
    processes = plan.processes or max(1, int(1 / gpus) if gpus else cores)
    if PARQUET not in file_names():
        log.info("no Parquet files, as pyarrow is missing: JSON lines alone are written")
    with ExitStack() as life:
        heard = life.enter_context(noting())
        archive = _Archive(config, plan, model, clips)
        life.callback(archive.close)
        archive.open()
        pool = make_pool(
            config,
            plan.cluster,
            processes=processes,
            gpus=gpus,
            stopped=lambda: heard.stop,
        )
        archive.run(pool)
        left = archive.summary()
    if left and not heard.stop:
        raise SourceError(left)
    return 0


def _prepared(config: Config, plan: ArchivePlan, *, fetch: bool) -> tuple[list[Clip], Model]:
    """The clips and the model; raises KestrelError for what could not run."""
    if config.source is not None or config.sources:
        raise ConfigError("an archive is of the clips that it names; leave source out")
    if config.track.camera_motion:
        raise ConfigError(
            "camera_motion of [track] looks at pictures, and an archive tracks without them: leave "
            "it out, or replay the clips one by one"
        )
    if not 1 <= plan.part_s <= 86_400:
        raise ConfigError(f"--part-s is {plan.part_s:g}; it must lie between 1 and 86400")
    if plan.gpu_share is not None and not 0 <= plan.gpu_share <= 1:
        raise ConfigError(f"--gpu-share is {plan.gpu_share:g}; it must lie between 0 and 1")
    if plan.processes is not None and not 1 <= plan.processes <= 1024:
        raise ConfigError(f"--processes is {plan.processes}; it must lie between 1 and 1024")
    if plan.cluster != "local":
        split_address(plan.cluster)
    clips = find_clips(plan.where)
    if fetch:
        model = choose_model(config)
    else:
        default = (each for each in list_models() if each.spec.default)
        model = next(default) if config.model is None else locate(config.model)
    for check in (check_tracking, check_privacy):
        check(archive_config(config), model.spec.labels)
    check_filters(config, model.spec.labels, model.spec.name)
    backend_factory(archive_config(config), model, Policy.LOSSLESS)  # whether there is the engine
    return clips, model


class _Archive:
    """The folder of results.

    clips/NAME/ has the files of a clip and is there once all of them are; parts/ has parts of clips
    of which others are missing; aside.jsonl the clips that were set aside; store/ the events.
    """

    def __init__(self, config: Config, plan: ArchivePlan, model: Model, clips: list[Clip]) -> None:
        self._config, self._plan, self._model, self._clips = config, plan, model, clips
        self.folder = plan.out
        self._parts_folder = plan.out / "parts"
        self._lock_fd = -1
        self._aside: dict[str, str] = {}
        self._offered = 0
        self._meter = OutputMeter("store")
        store = plan.out / "store"
        self._store = EventStore(
            StoreOptions(path=str(store)),
            self._meter,
            folders={"snapshot": store / "snapshots", "clip": store / "clips"},
            waits=True,
        )
        self._missing: dict[str, set[int]] = {}  # of clips that were cut
        self._parts: dict[str, list[Row]] = {}
        self._whole: list[Row] = []  # to be done uncut
        self._progress = _Progress(clips)

    def open(self) -> None:
        """Make or find the folder; raises ConfigError where it is another archive's, or in use."""
        try:
            self._parts_folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(f"{self.folder}: another run writes there; wait for its end") from error
        except OSError as error:
            raise unwritable(f"cannot write {self.folder}", error, self.folder) from error
        for left in (*self._parts_folder.glob("clip-*"), *self._parts_folder.glob("*.tmp")):
            _remove(left)  # of a run that was killed
        noted, made_by = self.folder / "archive.json", self._made_by()
        if noted.exists():
            before = json.loads(noted.read_text("utf-8"))
            if before != made_by:
                others = " and ".join(key for key in made_by if before.get(key) != made_by[key])
                raise ConfigError(
                    f"{self.folder} has results of a run with other {others}; name another folder "
                    "with --out"
                )
        else:
            self._write(noted, f"{json.dumps(made_by, indent=1)}\n".encode())
        self._store.start()

    def _made_by(self) -> dict[str, str]:
        """What all results are a function of, beside the clips."""
        weights = hashlib.sha256(self._model.weights.read_bytes()).hexdigest()
        config = hashlib.sha256(repr((self._config, self._model.spec)).encode()).hexdigest()
        return {"kestrel": __version__, "weights": weights, "configuration": config}

    def close(self) -> None:
        """Let the store write what waits, and end."""
        until_s = time.monotonic() + STORED_S
        while not self._meter.trouble and time.monotonic() < until_s:
            if self._meter.figures().delivered >= self._offered:
                break
            time.sleep(0.05)
        self._store.stop()
        if lost := sum(self._meter.figures().dropped.values()):
            log.warning("the store lacks %d events; run the same command again", lost)
        self._progress.end()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def run(self, pool: Pool) -> None:
        """What is left to do, clips that cannot be joined from their parts last, uncut."""
        self._work(pool, self._rows())
        whole, self._whole = self._whole, []
        if whole:
            self._work(pool, whole)
        self._write_aside()
        if not self._parts and not self._whole:
            for left in self._parts_folder.iterdir():  # of other lengths, or of what is set aside
                _remove(left)

    def _work(self, pool: Pool, parts: Iterable[Row]) -> None:
        for part, outcome in pool(parts):
            if outcome.fault:
                self._set_aside(part.clip, outcome.fault)
            elif part.of == 1:
                self._finish(part.clip, outcome.files, outcome.frames)
            elif part.clip.name not in self._aside:
                self._write(self._parts_folder / part.key, outcome.found)
                self._missing[part.clip.name].discard(part.number)
                self._join(part.clip)
            self._progress.did(part, outcome.frames)

    def _rows(self) -> Iterator[Row]:
        for clip in self._clips:
            if (self._folder_of(clip) / EVENTS).is_file():
                self._offer(clip)  # a run that was killed may not have stored them
                self._progress.skip(clip)
                continue
            parts = parts_of(clip, self._config, self._plan.part_s)
            if len(parts) == 1:
                yield parts[0]
                continue
            self._parts[clip.name] = parts
            there = [(self._parts_folder / part.key).is_file() for part in parts]
            left = [part for part, done in zip(parts, there, strict=True) if not done]
            self._missing[clip.name] = {part.number for part in left}
            self._progress.skip(clip, sum(there) / len(parts))
            if left:
                yield from left
            else:
                self._join(clip)

    def _join(self, clip: Clip) -> None:
        """Once all parts of a clip are there: track it, write its files."""
        if self._missing[clip.name]:
            return
        places = [self._parts_folder / part.key for part in self._parts.pop(clip.name)]
        try:
            parts = [Found.from_bytes(place.read_bytes()) for place in places]
            sure = is_whole(parts)
        except (OSError, ValueError, KeyError) as fault:
            log.warning("the parts of %s cannot be read (%s); it is done uncut", clip.name, fault)
            sure = False
        if sure:
            temporary = self._temporary()
            with ExitStack() as files:
                out = {
                    name: files.enter_context((temporary / name).open("wb"))
                    for name in file_names()
                }
                count = write_results(self._config, self._model.spec, clip.name, parts, out)
            self._publish(clip, temporary)
            log.debug("%s: %d frames of %d parts", clip.name, count, len(parts))
        else:
            self._whole.append(Row(clip))
        for place in places:
            place.unlink(missing_ok=True)

    def _finish(self, clip: Clip, files: dict[str, bytes], frames: int) -> None:
        temporary = self._temporary()
        for name, data in files.items():
            self._write(temporary / name, data)
        self._publish(clip, temporary)

    def _temporary(self) -> Path:
        made = self.folder / "parts" / f"clip-{os.getpid()}"
        _remove(made)
        made.mkdir()
        return made

    def _publish(self, clip: Clip, temporary: Path) -> None:
        """All files at once: what a killed run leaves is whole or not there."""
        place = self._folder_of(clip)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        temporary.rename(place)
        self._offer(clip)
        self._progress.clips += 1

    def _folder_of(self, clip: Clip) -> Path:
        return self.folder / "clips" / clip.name

    def _offer(self, clip: Clip) -> None:
        lines = (self._folder_of(clip) / EVENTS).read_text("utf-8").splitlines()
        events = [Event(**json.loads(line)) for line in lines]
        self._store.offer(clip.name, events)
        self._offered += len(events)

    def _set_aside(self, clip: Clip, reason: str) -> None:
        if clip.name not in self._aside:
            self._aside[clip.name] = mask_text(reason)
            self._progress.aside += 1

    def _write_aside(self) -> None:
        rows = ({"clip": name, "reason": why} for name, why in sorted(self._aside.items()))
        text = "".join(f"{quoted(row)}\n" for row in rows)
        self._write(self.folder / "aside.jsonl", text.encode())

    def _write(self, path: Path, data: bytes) -> None:
        """Whole or not at all."""
        part = path.with_name(f"{path.name[:200]}.tmp")
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise unwritable(f"cannot write {path}", error, path) from error

    def summary(self) -> str:
        """Say how it went; the text of the fault where clips were set aside, else ""."""
        done = sum((self._folder_of(clip) / EVENTS).is_file() for clip in self._clips)
        self._progress.end()
        aside = f", {len(self._aside)} set aside" if self._aside else ""
        print(f"archive  {done} of {clips_of(len(self._clips))} done{aside}, in {self.folder}")
        print(f"         {self._progress.figures()}")
        if not self._aside:
            return ""
        name, why = min(self._aside.items())
        return (
            f"{len(self._aside)} of {clips_of(len(self._clips))} could not be done and will be "
            f"tried again by the next run, for the reasons in {self.folder / 'aside.jsonl'}; the "
            f"first of them, {name}: {why}"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _Progress:
    """A line on a terminal, or now and then one in the log; the rest of the time by bytes."""

    def __init__(self, clips: list[Clip]) -> None:
        self._total, self._count = sum(clip.size for clip in clips), len(clips)
        self._skipped = self._done = 0.0
        self.clips = self.aside = self.frames = 0
        self._start_s = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next_s = self._start_s + (DRAWN_S if self._terminal else TOLD_S)

    def skip(self, clip: Clip, share: float = 1) -> None:
        """Done by an earlier run."""
        self._skipped += clip.size * share
        self.clips += share == 1

    def did(self, part: Row, frames: int) -> None:
        """A part, now."""
        self._done += part.clip.size / part.of
        self.frames += frames
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (DRAWN_S if self._terminal else TOLD_S)
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{self._line(now_s)}")
            sys.stderr.flush()
        else:
            log.info("%s", self._line(now_s))

    def _line(self, now_s: float) -> str:
        left = max(0.0, self._total - self._skipped - self._done)
        text = (
            f"{self.clips} of {clips_of(self._count)}, {1 - left / self._total:.0%}, "
            f"{self.aside} set aside, {self.frames} frames"
        )
        if self._done < 0.01 * self._total:  # too little to go by
            return text
        minutes, seconds = divmod(round((now_s - self._start_s) * left / self._done), 60)
        return f"{text}, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"

    def figures(self) -> str:
        """What this run did."""
        took_s = time.monotonic() - self._start_s
        if not self._done:
            return "nothing was left to do"
        return f"{self.frames} frames in {took_s:.1f} s, {self.frames / max(took_s, 1e-9):.1f} FPS"

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
