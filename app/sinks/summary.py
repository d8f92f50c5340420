"""What was seen in the whole run?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.detections import Result
from app.frame import SourceInfo
from app.overlay import label_of, printable


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """One label over the whole run."""

    label: str
    frames: int  # in how many frames it was seen
    most_at_once: int
    best_score: float


class SummarySink:
    """Counts what was seen; its memory is bounded by the number of classes.

    Read it once the pipeline has ended.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._labels: Sequence[str] = ()
        self._seen: dict[str, tuple[int, int, float]] = {}  # label: frames, most, best

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Take the names."""
        self._labels = labels

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable: labels that both models have are counted together."""
        self._labels = labels

    def emit(self, result: Result) -> None:
        """Count one frame."""
        self.frames += 1
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

    def close(self) -> None:
        """The counts stay readable."""

    def labels(self) -> list[LabelSummary]:
        """All labels that were seen, the most frequent first."""
        seen = [LabelSummary(printable(label), *counts) for label, counts in self._seen.items()]
        return sorted(seen, key=lambda each: (-each.frames, -each.best_score, each.label))

    def lines(self, limit: int = 12) -> list[str]:
        """For people, one line a label, at least one line and at most ``limit`` + 1."""
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
        return lines

    def text(self, limit: int = 12) -> str:
        """``lines`` as one text."""
        return "\n".join(self.lines(limit))
