"""Progress and summary of a run for people at a terminal."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TextIO

from ..core.detections import Detections, Result, label_of
from ..core.events import Event, Fired
from ..core.frame import SourceInfo
from ..core.interfaces import Sink
from ..core.text import printable

REDRAW_S = 0.2
FPS_WINDOW_S = 3.0
_CLEAR = "\r\x1b[K"


class ProgressSink:
    """One line on a terminal, redrawn at most five times a second; silent anywhere else.

    ``total`` is the number of frames to come; None takes the source's word, where it has one.
    """

    def __init__(self, total: int | None = None, stream: TextIO | None = None) -> None:
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._labels: Sequence[str] = ()
        self._on = False
        self._drawn = False
        self._frames = self._place = 0  # place: how far the source is, with all that was dropped
        self._start_s = self._next_s = 0.0
        self._marks: deque[tuple[float, int, int]] = deque()  # (time, frames, place), recent

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Find out whether anybody looks."""
        self._labels = labels
        if self._total is None:  # a recording has an end, also one that is paced and so live
            self._total = source.frame_count
        self._on = _is_terminal(self._stream)
        self._next_s = 0.0

    def emit(self, result: Result) -> None:
        """Count the frame, and redraw if it is time to."""
        self._frames += 1
        self._place = max(self._frames, result.frame.index + 1)
        now_s = monotonic()
        if not self._on or now_s < self._next_s:
            return
        self._next_s = now_s + REDRAW_S
        self._start_s = self._start_s or now_s
        self._marks.append((now_s, self._frames, self._place))
        while len(self._marks) > 2 and now_s - self._marks[0][0] > FPS_WINDOW_S:
            self._marks.popleft()
        self._write(_CLEAR + self._line(now_s, result.detections)[: self._width() - 1])
        self._drawn = True

    def clear(self) -> None:
        """Wipe the line, so that something else can be written; the next redraw brings it back."""
        if self._drawn:
            self._write(_CLEAR)
            self._drawn = False

    def close(self) -> None:
        self.clear()
        self._on = False

    def _line(self, now_s: float, detections: Detections) -> str:
        (then_s, before, from_place), fps, pace = self._marks[0], 0.0, 0.0
        if now_s > then_s:
            fps = (self._frames - before) / (now_s - then_s)
            pace = (self._place - from_place) / (now_s - then_s)
        parts = [f"frame {self._frames}", f"{fps:.1f} FPS"]
        if self._total:
            # the container's word may be wrong by one: never "61 of 60"
            total = max(self._total, self._place)
            parts[0] = f"frame {self._place} of {total} ({100 * self._place // total} %)"
            if pace > 0:
                parts.append(f"{_clock((total - self._place) / pace)} left")
        counts = Counter(detections.class_ids.tolist())
        seen = [f"{n} {printable(label_of(self._labels, i))}" for i, n in counts.most_common(5)]
        parts.append(", ".join(seen) or "nothing")
        return "  ".join(parts)

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal went away: nobody looks any more
            self._on = False


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(label: str, count: int) -> str:
    """A label as it is said of so many: 1 person, 6 people, 2 buses."""
    label = printable(label)
    if count == 1:
        return label
    if label == "person":
        return "people"
    return label + ("es" if label.endswith(("s", "x", "ch", "sh")) else "s")


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label over the whole run."""

    label: str
    frames: int  # in how many frames it was seen
    most_at_once: int
    best_score: float


class SummarySink(Sink):
    """Counts what was seen; its memory is bounded by the number of classes.

    Read it once the pipeline has ended.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._labels: Sequence[str] = ()
        self._seen: dict[str, tuple[int, int, float]] = {}  # label: frames, most, best
        self._objects: Counter[str] = Counter()  # tracks, by label
        self._crossed: Counter[tuple[str, str, str]] = Counter()  # label, line, direction

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        self._labels = labels

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable: labels that both models have are counted together."""
        self._labels = labels

    def emit(self, result: Result) -> None:
        self.frames += 1
        if result.events:
            self.happened(result.events, result.fired)
        detections = result.detections
        if not len(detections):
            return
        class_ids = detections.class_ids.tolist()
        best: dict[int, float] = {}
        for class_id, score in zip(class_ids, detections.scores.tolist(), strict=True):
            best.setdefault(class_id, score)  # scores are falling: the first is the best
        for class_id, count in Counter(class_ids).items():
            label = label_of(self._labels, class_id)
            frames, most, top = self._seen.get(label, (0, 0, 0.0))
            self._seen[label] = (frames + 1, max(most, count), max(top, best[class_id]))

    def happened(self, events: Sequence[Event], fired: Sequence[Fired]) -> None:
        for event in events:
            if event.type == "appear":
                self._objects[event.label or ""] += 1
            elif event.type == "cross":
                self._crossed[event.label or "", event.line or "", event.direction or ""] += 1

    def objects(self) -> list[str]:
        """For people, a line for each label of which objects were tracked."""
        lines = []
        for label, count in self._objects.most_common(12):
            names = sorted({name for who, name, _ in self._crossed if who == label})
            crossed = [
                f"{self._crossed[label, name, 'in']} in, {self._crossed[label, name, 'out']} out "
                f"by line {printable(name)}"
                for name in names
            ]
            lines.append(
                f"{count} {plural(label, count)}{': ' * bool(crossed)}{'; '.join(crossed)}"
            )
        return lines

    def labels(self) -> list[LabelSummary]:
        seen = [LabelSummary(printable(label), *counts) for label, counts in self._seen.items()]
        return sorted(seen, key=lambda each: (-each.frames, -each.best_score, each.label))

    def lines(self, limit: int = 12) -> list[str]:
        """For people: a line for each of ``limit`` labels, at least one; then the objects."""
        if not self.frames:
            return ["no frames"]
        seen = self.labels()
        if not seen:
            return [f"nothing in {self.frames} frames"]
        lines = [
            f"{each.label} in {each.frames} of {self.frames} frames "
            f"(at most {each.most_at_once} at once, best score {each.best_score:.2f})"
            for each in seen[:limit]
        ]
        if len(seen) > limit:
            lines.append(f"and {len(seen) - limit} more labels")
        return lines + self.objects()
