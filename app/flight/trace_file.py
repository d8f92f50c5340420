"""How does a trace lie on the disk? JSON lines: a header, then [kind, time_ns, frame, …].

Kinds, with what follows: "put" captured_ns; "replaced", "take", "kept", "stale" (the time is that
of the decision); "result" age_ns, {stage: ns}, [[class_id, score, x0, y0, x1, y1], …]; and without
a frame (-1): "state" name, "error" text. Times are monotonic; the header has the wall clock's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from app.errors import ConfigError, SinkError

VERSION = 1
SEGMENT_BYTES = 8 * 2**20  # half an hour and more at 30 frames a second
Event = tuple[Any, ...]
KINDS = ("put", "replaced", "take", "kept", "stale", "result", "state", "error")
LENGTHS = {"put": 4, "result": 6, "state": 4, "error": 4}


@dataclass(frozen=True, slots=True)
class Trace:
    """What was read; ``events`` in the order of the decisions."""

    header: Mapping[str, Any]
    events: list[Event]


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

    def write(self, events: Iterable[Event]) -> None:
        """Append and flush; raises SinkError."""
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
        self._size += self._file.write(json.dumps(value, separators=(",", ":")) + "\n")

    def _error(self, fault: OSError) -> SinkError:
        return SinkError(f"cannot write --trace {self._path}: {fault.strerror or fault}")


def older(path: Path) -> Path:
    """The other file of the ring."""
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
    events: list[Event] = []
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
    if not isinstance(value, list) or len(value) < 3 or not _known(value[0]):
        return False
    kind, *rest = value
    if len(value) != LENGTHS.get(kind, 3) or not all(_whole(number) for number in rest[:2]):
        return False
    if kind == "put":
        return _whole(rest[2])
    if kind == "result":
        age_ns, stages_ns, boxes = rest[2:]
        timed = isinstance(stages_ns, dict) and all(map(_whole, stages_ns.values()))
        return _whole(age_ns) and timed and isinstance(boxes, list)
    return True


def _known(kind: Any) -> bool:
    return isinstance(kind, str) and kind in KINDS


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
