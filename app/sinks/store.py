"""A folder that keeps events, objects, counts and the states of cameras, in SQLite."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..config import StoreOptions
from ..core.detections import Result
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.states import SourceStatus
from ..core.stats import OutputMeter, PipelineStats
from .budget import claim_folder
from .json_lines import quoted
from .store_files import StoreFiles
from .store_schema import cannot_store, open_to_write

log = logging.getLogger(__name__)

CAPACITY = 4096  # events that wait at most
BATCH = 500  # in one transaction
GATHER_S = 0.2  # between looks at the queue
TICK_S = 1.0  # between looks at the sources
ALIVE_S = 10.0  # between notes that the run lives
FIGURES_S = 60.0
RETRY_S = 5.0  # after a fault of the disk
STOP_S = 1.5
MOST_TRACKS = 4096
AGE_STEP = 1.05  # between two classes of ages: what is read back is within 2.5 %
_AGES = 65_536  # of frames that the writer has not looked at


Fate = Literal["kept", "known", "stale"]


class _Told(NamedTuple):
    camera: str
    event: Event
    done: Future[Fate] | None = None


class _Change(NamedTuple):
    """``seen`` as it is to be, or None to delete; of the whole object, or of one event."""

    event_id: str
    seen: bool | None
    whole: bool
    done: Future[int]


@dataclass
class _Memory:
    """What the writer knows beside the database; as it was, where a transaction fails."""

    objects: OrderedDict[tuple[str, int], str] = field(default_factory=OrderedDict)
    states: dict[str, tuple[str, int]] = field(default_factory=dict)  # the last, and from when
    figures: dict[str, PipelineStats] = field(default_factory=dict)  # as they were last noted
    ages: dict[str, Counter[int]] = field(default_factory=dict)  # since then
    leases: dict[str, int] = field(default_factory=dict)  # the highest of each camera

    def copy(self) -> _Memory:
        ages = {name: each.copy() for name, each in self.ages.items()}
        states, figures, leases = self.states.copy(), self.figures.copy(), self.leases.copy()
        return _Memory(self.objects.copy(), states, figures, ages, leases)


class EventStore:
    """One writer thread, behind a bounded queue; readers open the file themselves.

    ``status`` and ``stats`` are asked of each source about once a second and a minute; None
    in a replay, whose clock is not the wall's. There (``waits``) a full queue makes the pipeline
    wait, else the event is dropped and counted. What the disk refuses is tried again; meanwhile
    the queue fills. A batch is written whole or not at all, also when the process is killed.
    An event under an older lease than the camera's newest is refused and counted.
    """

    def __init__(
        self,
        options: StoreOptions,
        meter: OutputMeter,
        *,
        folders: Mapping[str, Path],
        status: Callable[[str], SourceStatus] | None = None,
        stats: Callable[[], PipelineStats] | None = None,
        waits: bool = False,
    ) -> None:
        assert options.path is not None
        self.folder, self._options, self._meter = Path(options.path), options, meter
        self._folders = dict(folders)
        self._status, self._stats, self._waits = status, stats, waits
        self._jobs: deque[_Told | _Change] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="output-store", daemon=True)
        self._sinks: dict[str, StoreSink] = {}
        self._lock_fd = -1
        self._memory = _Memory()
        self._urgent = False  # somebody waits for the writer
        self._alive_s = self._retry_s = self._look_s = float("-inf")
        self._figures_s = time.monotonic()

    def sink(self, name: str, camera: str) -> StoreSink:
        """For the source ``name``; ``camera``: what it is called until it is open."""
        self._sinks = {**self._sinks, name: StoreSink(self, camera)}  # another thread goes through
        return self._sinks[name]

    def forget(self, name: str) -> None:
        self._sinks = {each: sink for each, sink in self._sinks.items() if each != name}

    def start(self) -> None:
        """Claim and open the store; raises SinkError with the cure."""
        self._lock_fd = claim_folder(self.folder, "store", doing="keep events in")
        try:
            self._db = open_to_write(self.folder)
            self._files = StoreFiles(self._db, self.folder, self._options, self._folders)
            with self._transaction():
                self._files.note_folders()
                if self._status is not None:
                    self._end_states(self._files.meta("alive_ms"))
        except sqlite3.Error as error:
            self._release()
            raise cannot_store(self.folder, error) from error
        except BaseException:
            self._release()
            raise
        self._thread.start()

    def keep(self, options: StoreOptions) -> None:
        """Other limits from now on; any thread, once it is started."""
        self._options = options
        self._files.limit(options)

    def stop(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)
            if self._thread.is_alive():
                log.warning(
                    "the store %s was not done %g s after the end, still %d events behind: its "
                    "disk, or this machine's processor, does not keep up",
                    *(self.folder, STOP_S, len(self._jobs)),
                )

    def offer(self, camera: str, events: Sequence[Event]) -> None:
        """Pipeline thread; waits only in a replay, and only while the disk takes what it gets.

        In a live run it takes no lock and wakes nobody: the writer comes by every ``GATHER_S``.
        """
        for event in events:
            if self._waits and len(self._jobs) >= CAPACITY:
                with self._changed:
                    self._urgent = True
                    self._changed.notify_all()
                    self._changed.wait_for(
                        lambda: len(self._jobs) < CAPACITY or self._meter.trouble or self._closing
                    )
            if len(self._jobs) >= CAPACITY:
                self._meter.dropped("disk" if self._meter.trouble else "queue full")
            else:
                self._jobs.append(_Told(camera, event))

    def take(self, camera: str, event: Event) -> Future[Fate]:
        """An event of another machine; any thread. Done once it is on the disk, or known to be.

        "stale": refused, as an event under a newer lease of this camera has come before. The future
        fails with SinkError where the queue is full and at the end of the run; try again later.
        """
        done = Future[Fate]()
        told = _Told(camera, event, done)
        done.set_running_or_notify_cancel()  # who gives up waiting does not disturb the writer
        with self._changed:
            if self._closing or len(self._jobs) >= CAPACITY:
                done.set_exception(cannot_store(self.folder, RuntimeError("it is busy")))
            else:
                self._jobs.append(told)
        return done

    def change(self, event_id: str, *, seen: bool | None, whole: bool) -> Future[int]:
        """Mark as seen or not, or delete (None), with the object's other events if ``whole``.

        Any thread. The future has how many events that were; 0: there is none of this id.
        """
        change = _Change(event_id, seen, whole, Future())
        change.done.set_running_or_notify_cancel()  # see take
        with self._changed:
            if self._closing or len(self._jobs) >= CAPACITY:
                change.done.set_exception(cannot_store(self.folder, RuntimeError("it is busy")))
            else:
                self._jobs.append(change)
                self._urgent = True
                self._changed.notify_all()
        return change.done

    # -- writer thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        batch: list[_Told | _Change] = []
        try:
            while True:
                over = self._take(batch)
                now_s = time.monotonic()
                if over or (now_s >= self._retry_s and (batch or now_s >= self._look_s)):
                    self._look_s = now_s + TICK_S
                    self._try(batch, over)
                if over:
                    break
        finally:
            lost = [each for each in [*batch, *self._jobs] if isinstance(each, _Told)]
            self._meter.dropped("stopped", sum(each.done is None for each in lost))
            for each in lost:
                if each.done is not None:
                    fault = RuntimeError("the run has ended")
                    each.done.set_exception(cannot_store(self.folder, fault))
            self._release()

    def _take(self, batch: list[_Told | _Change]) -> bool:
        """Fill the batch; True once nothing more comes, or at the end nothing more goes."""
        with self._changed:
            more = len(self._jobs) >= BATCH and not batch  # else there was a fault, or time
            if not more:
                self._changed.wait_for(lambda: self._closing or self._urgent, GATHER_S)
            self._urgent = False
            while self._jobs and len(batch) < BATCH:
                batch.append(self._jobs.popleft())
            self._meter.waiting = len(self._jobs)
            self._changed.notify_all()
            return self._closing and not (self._jobs and not self._meter.trouble)

    def _try(self, batch: list[_Told | _Change], over: bool) -> None:
        done: list[Callable[[], None]] = []
        memory = self._memory.copy()
        try:
            with self._transaction():
                for job in batch:
                    if isinstance(job, _Told):
                        fate = self._write(job.camera, job.event)
                        if job.done is not None:
                            done.append(partial(job.done.set_result, fate))
                    else:
                        done.append(partial(job.done.set_result, self._apply(job)))
                self._look(over)
        except (sqlite3.Error, OSError) as error:
            self._memory = memory
            self._fail(batch, error)
            return
        self._meter.delivered(sum(isinstance(job, _Told) for job in batch))
        batch.clear()
        for tell in done:
            tell()
        if self._meter.trouble:
            log.info("keeping events again, in %s", self.folder)
            self._meter.trouble = ""

    def _fail(self, batch: list[_Told | _Change], error: BaseException) -> None:
        fault = cannot_store(self.folder, error)
        if not self._meter.trouble:
            log.warning("%s; trying again every %g s", fault, RETRY_S)
        self._meter.trouble = str(fault)
        self._retry_s = time.monotonic() + RETRY_S
        for job in batch:
            if isinstance(job, _Change):
                job.done.set_exception(fault)
        batch[:] = [job for job in batch if isinstance(job, _Told)]
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _is_fenced(self, camera: str, lease: int) -> bool:
        """Whether another node has had the camera since."""
        key, newest = f"lease:{camera}", self._memory.leases.get(camera)
        if newest is None:
            newest = int(self._files.meta(key) or 0)
        if lease > newest:
            self._files.set_meta(key, str(lease))
        self._memory.leases[camera] = max(lease, newest)
        return lease < newest

    def _write(self, camera: str, event: Event) -> Fate:
        if event.lease is not None and self._is_fenced(camera, event.lease):
            self._meter.dropped("older lease")
            return "stale"
        time_ms = epoch_ms(event.time)
        first, subject = False, None
        if event.track_id is not None:
            track = camera, event.track_id
            # another machine, or the same after a restart, numbers its tracks from 1 again
            anew = event.node is not None and event.type == "appear"
            subject = None if anew else self._memory.objects.get(track)
            if subject is None:
                first, subject = True, event.id
                self._memory.objects[track] = subject
                if len(self._memory.objects) > MOST_TRACKS:
                    self._memory.objects.popitem(last=False)
            if event.type == "gone":
                self._memory.objects.pop(track, None)
        row = self._db.execute(
            "INSERT OR IGNORE INTO events(id, time_ms, stored_ms, camera, type, label, zone, line,"
            " object, first, snapshot, clip, told) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(event.id, time_ms, self._files.now_ms(), camera, event.type, event.label),
                *(event.zone, event.line, subject, first, event.snapshot, event.clip),
                quoted(event.as_json()),
            ),
        )
        if not row.rowcount:  # sent twice, or of a recording that was replayed before
            return "known"
        places = ("camera", camera), ("label", event.label), ("zone", event.zone)
        self._db.executemany(
            "INSERT OR IGNORE INTO places VALUES(?, ?)",
            [each for each in (*places, ("line", event.line), ("type", event.type)) if each[1]],
        )
        if subject is not None:
            self._db.execute(
                "INSERT INTO objects VALUES(?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"
                " last_ms = max(last_ms, excluded.last_ms), label = excluded.label,"
                " score = max(score, excluded.score)",
                (subject, camera, event.track_id, event.label, time_ms, time_ms, event.score or 0),
            )
        for kind, name in (("snapshot", event.snapshot), ("clip", event.clip)):
            if name is not None:
                self._files.note(kind, name)
        kind = "zone" if event.zone else "line" if event.line else "object"
        way = event.direction if event.type == "cross" and event.direction else event.type
        self._db.execute(
            "INSERT INTO counts VALUES(?,?,?,?,?,?,1) ON CONFLICT DO UPDATE SET count = count + 1",
            (
                *(time_ms // 60_000, camera, kind, event.zone or event.line or "", way),
                event.label or "",
            ),
        )
        return "kept"

    def _apply(self, change: _Change) -> int:
        ids = self._files.ids_of(change.event_id, whole=change.whole)
        if change.seen is None:
            self._files.delete(ids)
        else:
            self._db.executemany(
                "UPDATE events SET seen = ? WHERE id = ?", [(change.seen, each) for each in ids]
            )
        return len(ids)

    def _look(self, over: bool) -> None:
        """At the sources, the clock and what is too much."""
        now_s = time.monotonic()
        self._files.enforce(now_s)
        if self._status is None or self._stats is None:
            return
        for name, sink in self._sinks.items():
            status = self._status(name)
            self._note_state(sink.camera, status.state, int(status.since_s * 1e3), status.cause)
            self._memory.ages.setdefault(name, Counter()).update(age_classes(sink.take_ages()))
        present = {sink.camera for sink in self._sinks.values()}
        for camera in self._memory.states.keys() - present:  # a window has another source now
            self._note_state(camera, "off", 0, "")
        if now_s - self._alive_s >= ALIVE_S or over:
            self._alive_s = now_s
            self._files.set_meta("alive_ms", str(time.time_ns() // 1_000_000))
        if now_s - self._figures_s >= FIGURES_S or over:
            self._figures_s = now_s
            self._note_figures(self._stats())
        if over:
            self._end_states(str(time.time_ns() // 1_000_000))

    def _note_state(self, camera: str, state: str, since_ms: int, cause: str) -> None:
        before, at_ms = self._memory.states.get(camera, ("", 0))
        if state == before:
            return
        at_ms = since_ms if since_ms > at_ms else max(time.time_ns() // 1_000_000, at_ms + 1)
        self._memory.states[camera] = state, at_ms
        self._db.execute(
            "INSERT OR REPLACE INTO states VALUES(?,?,?,?)", (camera, at_ms, state, cause)
        )

    def _end_states(self, at_ms: str | None) -> None:
        """No camera is watched from then on; also after a run that could not say so itself."""
        if at_ms is not None:
            self._db.execute(
                "INSERT OR IGNORE INTO states SELECT camera, max(?, at_ms + 1), 'off', '' FROM"
                " (SELECT camera, state, max(at_ms) AS at_ms FROM states GROUP BY camera)"
                " WHERE state != 'off'",
                (int(at_ms),),
            )

    def _note_figures(self, stats: PipelineStats) -> None:
        at_ms = time.time_ns() // 1_000_000
        for name, sink in self._sinks.items():
            now = stats.sources.get(name, stats)
            old = self._memory.figures.get(name)
            self._memory.figures[name] = now
            ages = self._memory.ages.pop(name, Counter())
            self._db.execute(
                "INSERT OR REPLACE INTO figures VALUES(?,?,?,?,?,?,?)",
                (
                    *(at_ms, sink.camera, now.captured - (old.captured if old else 0)),
                    now.processed - (old.processed if old else 0),
                    json.dumps(_grown(now.dropped, old.dropped if old else {})),
                    json.dumps(_grown(now.events, old.events if old else {})),
                    json.dumps(ages),
                ),
            )

    def _release(self) -> None:
        if database := getattr(self, "_db", None):
            database.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


class StoreSink(Sink):
    """The results of one source into the store; pipeline thread."""

    def __init__(self, store: EventStore, camera: str) -> None:
        self._store, self.camera = store, camera
        self._ages_ns: deque[int] = deque(maxlen=_AGES)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self.camera = source.name or source.uri

    update = open  # see interfaces.Updatable

    def emit(self, result: Result) -> None:
        self._ages_ns.append(result.age_ns)
        if result.events:
            self._store.offer(self.camera, result.events)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        if events:
            self._store.offer(self.camera, events)

    def take_ages(self) -> list[int]:
        """Those since it was last asked, in nanoseconds; the writer's thread."""
        return [self._ages_ns.popleft() for _ in range(len(self._ages_ns))]


def age_classes(ages_ns: Sequence[int]) -> Counter[int]:
    """How many ages there are of each class n: up to AGE_STEP ** n milliseconds."""
    if not ages_ns:
        return Counter()
    ages_ms = np.maximum(np.array(ages_ns, np.float64) / 1e6, 1e-3)
    classes = np.ceil(np.log(ages_ms) / math.log(AGE_STEP)).astype(np.int64)
    values, counts = np.unique(classes, return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def epoch_ms(time_text: str) -> int:
    """Of RFC 3339 in UTC, milliseconds since 1970."""
    return round(datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp() * 1e3)


def _grown(now: Mapping[str, int], old: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name in now if (n := now[name] - old.get(name, 0))}
