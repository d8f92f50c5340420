"""The flight recorder: what happens to each frame, its trace files, and a run repeated from one.

Kinds, with what follows: "put" captured_ns; "replaced", "take", "kept", "stale" (the time is that
of the decision); "result" age_ns, {stage: ns}, [[class_id, score, x0, y0, x1, y1], …]; "begin"
{uri, name, media: whether frames have times of a recording}; "event" and "fired" {what happened to
an object, and the rule}; and without a frame (-1): "state" name, "error" text. Times are monotonic;
the header has the wall clock's, ``wall_offset_ns`` to add to them, and ``utc_offset_s``.

Notes are taken on the threads that decide, into memory. The newest go into a file of their own when
a run ends by an error; with ``--trace FILE`` all go there, written by a thread of the recorder's.

When a trace is replayed, the application's hand-off decides again, in the recorded order and at the
recorded times (a virtual clock); what it decides is compared with what was recorded.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import Any, TextIO

from .. import __version__
from ..core.detections import Detections, Result
from ..core.errors import (
    ConfigError,
    KestrelError,
    SinkError,
    SourceEnded,
    SourceError,
    VerdictError,
)
from ..core.events import Event, Fired
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource, Sink
from ..pipeline.handoff import Handoff, Policy, is_stale

log = logging.getLogger(__name__)


VERSION = 1
SEGMENT_BYTES = 8 * 2**20  # half an hour and more at 30 frames a second
TraceEvent = tuple[Any, ...]
KINDS = ("put", "replaced", "take", "kept", "stale", "result", "state", "error")
TOLD = ("begin", "event", "fired")  # each with one object
LENGTHS = {"put": 4, "result": 6, "state": 4, "error": 4, **dict.fromkeys(TOLD, 4)}


@dataclass(frozen=True, slots=True)
class Trace:
    """What was read; ``events`` in the order of the decisions."""

    header: Mapping[str, Any]
    events: list[TraceEvent]


class TraceWriter:
    """A ring of two files, FILE and FILE.1 (the older one): twice ``SEGMENT_BYTES`` at most."""

    def __init__(
        self, path: Path, header: Mapping[str, Any], *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._path, self._segment_bytes = path, segment_bytes
        self._header = {"trace": VERSION, **header}
        self._file: TextIO | None = None
        self._size = 0
        try:
            older(path).unlink(missing_ok=True)  # of another run
            self._begin()
        except OSError as fault:
            raise self._error(fault) from fault

    def write(self, events: Iterable[TraceEvent]) -> None:
        try:
            for event in events:
                if self._size >= self._segment_bytes:
                    self.close()
                    self._path.replace(older(self._path))
                    self._begin()
                self._line(event)
            if self._file is not None:
                self._file.flush()
        except OSError as fault:
            raise self._error(fault) from fault

    def close(self) -> None:
        """Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _begin(self) -> None:
        self._file, self._size = self._path.open("w", encoding="utf-8"), 0
        self._line(self._header)

    def _line(self, value: object) -> None:
        assert self._file is not None
        self._size += self._file.write(
            json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n"
        )

    def _error(self, fault: OSError) -> SinkError:
        return SinkError(f"cannot write --trace {self._path}: {fault.strerror or fault}")


def older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def read_trace(path: Path) -> Trace:
    """Both files of the ring; raises ConfigError. A last line that was cut off is left out."""
    lines: list[str] = []
    try:
        for file in (older(path), path):
            if file.exists() or file == path:
                lines += file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"cannot read --trace {path}: {fault}") from fault
    header: Mapping[str, Any] | None = None
    events: list[TraceEvent] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as fault:
            if number == len(lines):
                break
            raise ConfigError(f"--trace {path}, line {number}: is no JSON: {fault}") from fault
        if isinstance(value, dict):
            header = value if header is None else header
        elif _sound(value):
            events.append(tuple(value))
        else:
            raise ConfigError(f"--trace {path}, line {number}: is no event: {line[:80]!r}")
    age_ms = None if header is None else header.get("max_age_ms")
    if age_ms is not None and not (isinstance(age_ms, (int, float)) and 0 <= age_ms < 1e9):
        raise ConfigError(f"--trace {path}: its max_age_ms is {age_ms!r}, which is no number")
    if header is None or header.get("trace") != VERSION:
        raise ConfigError(f"--trace {path}: is no trace that this version can read")
    return Trace(header, events)


def _sound(value: Any) -> bool:
    """Whether a line is an event; what is read here is trusted afterwards."""
    if not isinstance(value, list) or len(value) < 3:
        return False
    kind, *rest = value
    if not isinstance(kind, str) or kind not in (*KINDS, *TOLD):
        return False
    if len(value) != LENGTHS.get(kind, 3) or not all(_whole(number) for number in rest[:2]):
        return False
    if kind == "put":
        return _whole(rest[2])
    if kind in TOLD:
        return isinstance(rest[2], dict)
    if kind == "result":
        age_ns, stages_ns, boxes = rest[2:]
        timed = isinstance(stages_ns, dict) and all(map(_whole, stages_ns.values()))
        return _whole(age_ns) and timed and isinstance(boxes, list)
    return True


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def clock_of(trace: Trace) -> tuple[int, timezone]:
    """What to add to its times for those since 1970, and the time zone of its machine."""
    header = trace.header
    offset_ns, zone_s = header.get("wall_offset_ns"), header.get("utc_offset_s", 0)
    if not isinstance(offset_ns, int):  # of an older version
        try:
            began_s = datetime.fromisoformat(header["time"]).timestamp()
            offset_ns = round(began_s * 1e3) * 1_000_000 - int(header["time_ns"])
        except (KeyError, TypeError, ValueError, OverflowError):
            offset_ns = 0
    sound = _whole(zone_s) and abs(zone_s) < 86_400
    return offset_ns, timezone(timedelta(seconds=zone_s if sound else 0))


KEPT = 10_000  # events in memory: a minute or more, a few megabytes
PERIOD_S = 0.5


class FlightRecorder(Sink):
    """A sink for the results and a ``Note`` for the decisions; a context manager around the run."""

    def __init__(
        self,
        path: Path | None,
        header: Mapping[str, Any],
        *,
        last_words: Path,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self._path, self._clock_ns, self._last_words = path, clock_ns, last_words
        now = datetime.now(timezone.utc)
        offset = now.astimezone().utcoffset()
        self.wall_offset_ns = time_ns() - clock_ns()  # from monotonic to since 1970
        self._header = {
            "kestrel": __version__,
            "time": now.isoformat(timespec="milliseconds"),
            "time_ns": clock_ns(),
            "wall_offset_ns": self.wall_offset_ns,
            "utc_offset_s": 0 if offset is None else round(offset.total_seconds()),
            **header,
        }
        self._kept: deque[TraceEvent] = deque(maxlen=KEPT)
        self._unwritten: deque[TraceEvent] = deque(maxlen=KEPT)  # a disk that hangs costs events
        self._writer: TraceWriter | None = None
        self._state: Callable[[], str] = lambda: ""
        self._last_state = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._source: SourceInfo | None = None  # until its first frame has come

    def watch(self, state: Callable[[], str]) -> None:
        """Where the state is asked; before it is entered."""
        self._state = state

    def __enter__(self) -> FlightRecorder:
        if self._path is not None:  # an unwritable file is told at once
            self._writer = TraceWriter(self._path, self._header)
        self._thread = threading.Thread(target=self._run, name="flight", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2.0)
            if not self._thread.is_alive():
                self._write()
        if self._writer is not None:
            self._writer.close()

    def note(self, kind: str, index: int, time_ns: int) -> None:
        """See handoff.Note; any thread."""
        if kind == "put":
            self._add(kind, self._clock_ns(), index, time_ns)
        else:
            self._add(kind, time_ns or self._clock_ns(), index)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Its first frame says the rest."""
        self._source = source

    def emit(self, result: Result) -> None:
        """Keep times and boxes; they are spelt out where they are written, off this thread."""
        now_ns, index = self._clock_ns(), result.frame.index
        source, self._source = self._source, None
        if source is not None:
            media = result.frame.media_ns is not None
            told = {"uri": source.uri, "name": source.name, "media": media}
            self._add("begin", now_ns, index, told)
        stages_ns = dict(result.stages_ns)
        self._add("result", now_ns, index, result.age_ns, stages_ns, result.detections)
        self._happened(result.events, result.fired, index)

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        self._happened(events, fired, -1)

    def _happened(self, events: Sequence[Event], fired: Sequence[Fired], index: int) -> None:
        for event in events:
            self._add("event", self._clock_ns(), index, event.as_json())
        for rule, _, event in fired:
            self._add("fired", self._clock_ns(), index, {"rule": rule, **event.as_json()})

    def error(self, error: BaseException) -> None:
        """The run ended by it: write down what is kept, if no file has it and frames had come."""
        self._add("error", self._clock_ns(), -1, str(error))
        if self._path is not None or not any(event[0] == "put" for event in self._kept):
            return
        try:
            self._last_words.parent.mkdir(parents=True, exist_ok=True)
            part = self._last_words.with_name(f"{self._last_words.name}.{os.getpid()}.part")
            writer = TraceWriter(part, self._header, segment_bytes=sys.maxsize)
            writer.write(map(_spelt_out, list(self._kept)))
            writer.close()
            part.replace(self._last_words)  # never half of it, or two processes' in one
        except (SinkError, OSError) as fault:
            log.debug("the flight recorder could not be saved: %s", fault)
        else:
            log.info("the flight recorder's last %d events: %s", len(self._kept), self._last_words)

    def _add(self, *event: Any) -> None:
        self._kept.append(event)
        if self._path is not None:
            self._unwritten.append(event)

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            state = self._state()
            if state != self._last_state:
                self._last_state = state
                self._add("state", self._clock_ns(), -1, state)
            self._write()

    def _write(self) -> None:
        """A full disk ends the recording, not the run."""
        events = [_spelt_out(self._unwritten.popleft()) for _ in range(len(self._unwritten))]
        if self._writer is None or not events:
            return
        try:
            self._writer.write(events)
        except KestrelError as fault:
            log.warning("%s; nothing more is traced", fault)
            self._writer.close()
            self._writer = None


def _spelt_out(event: TraceEvent) -> TraceEvent:
    """As it stands in the file."""
    if event[0] != "result":
        return event
    found: Detections = event[5]
    boxes = [
        [class_id, round(score, 4), *(round(value, 2) for value in box)]
        for class_id, score, box in zip(
            found.class_ids.tolist(), found.scores.tolist(), found.xyxy.tolist(), strict=True
        )
    ]
    return (*event[:5], boxes)


OUTCOMES = ("replaced", "stale", "kept")
SHOWN = 3


class RecordedDropsSource:
    """The frames of ``source`` that are not dropped; a FrameSource for a lossless replay.

    ``max_age_ms`` other than the recorded one shows what would have been: nothing is compared then.
    """

    def __init__(
        self, source: FrameSource, trace: Trace, *, max_age_ms: float | None = None
    ) -> None:
        self._source, self.trace = source, trace
        recorded_ms = trace.header.get("max_age_ms")
        age_ms = recorded_ms if max_age_ms is None else max_age_ms
        self._max_age_ns = None if age_ms is None else int(age_ms * 1e6)
        self._compared = age_ms == recorded_ms
        self._handoff = Handoff(
            Policy.LATEST, on_drop=lambda reason: None, note=self._note_decision
        )
        self._events = iter(trace.events)
        self._decided: dict[int, str] = {}
        self._taken: Frame | None = None
        self._captured_ns: dict[int, int] = {}  # of frames under way
        told = (event[3] for event in trace.events if event[0] == "begin")
        self._begin: Mapping[str, Any] = next(told, {})

    def as_recorded(self, source: SourceInfo) -> SourceInfo:
        """The source under the names it had then."""
        uri, name = self._begin.get("uri"), self._begin.get("name")
        return replace(
            source,
            uri=uri if isinstance(uri, str) else source.uri,
            name=name if isinstance(name, str) else source.name,
        )

    def at_its_time(self, frame: Frame) -> Frame:
        """A frame of ``read``, once, at the time that it was captured then."""
        captured_ns = self._captured_ns.pop(frame.index, frame.captured_ns)
        media_ns = frame.media_ns if self._begin.get("media", True) else None
        return replace(frame, captured_ns=captured_ns, media_ns=media_ns)

    def open(self) -> SourceInfo:
        return replace(self._source.open(), live=False)

    def close(self) -> None:
        self._source.close()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame that is kept."""
        for event in self._events:
            kind, time_ns, index = event[:3]
            if kind == "put":
                frame = self._frame(index)
                self._handoff.put(replace(frame, captured_ns=event[3]), 0)
            elif kind == "take":
                self._taken = self._handoff.take()
            elif kind in ("kept", "stale") and self._taken is not None:
                frame, self._taken = self._taken, None
                stale = is_stale(frame.captured_ns, time_ns, self._max_age_ns)
                self._decided[frame.index] = "stale" if stale else "kept"
                if not stale:
                    self._captured_ns[frame.index] = frame.captured_ns
                    return replace(frame, captured_ns=monotonic_ns())  # its age is that of now
        raise SourceEnded

    def _note_decision(self, kind: str, index: int, time_ns: int) -> None:
        if kind == "replaced":
            self._decided[index] = kind

    def _frame(self, index: int) -> Frame:
        """The frame that arrived then; those before it never did."""
        while True:
            try:
                frame = self._source.read(1.0)
            except SourceEnded:
                raise SourceError(
                    f"the recording has ended, but the trace has a frame {index}: it is of "
                    f"{self.trace.header.get('source')}"
                ) from None
            if frame is not None and frame.index >= index:
                if frame.index > index:
                    raise SourceError(f"the recording has no frame {index} where the trace has one")
                return frame

    def verdict(self) -> str:
        """One line if all was decided as it was then; else VerdictError. After the run."""
        counts = Counter(self._decided.values())
        told = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name]) or "nothing"
        if not self._compared:
            return f"decided with another max_age_ms than then: {told}"
        recorded = {event[2]: event[0] for event in self.trace.events if event[0] in OUTCOMES}
        # a run that was ended early, and a ring that lost its beginning, leave some open
        differ = [
            f"frame {index} was {recorded[index]}, is {outcome}"
            for index, outcome in self._decided.items()
            if recorded.get(index, outcome) != outcome
        ]
        if differ:
            raise VerdictError(
                f"{len(differ)} of {len(self._decided)} frames were decided otherwise than in the "
                f"trace: {'; '.join(differ[:SHOWN])}"
            )
        return f"decided as recorded, {len(self._decided)} frames: {told}"
