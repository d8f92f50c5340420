"""What have the engines of a session done in all, and how are they doing now?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.pipeline import Pipeline
from app.session.recent import RecentSink
from app.session_state import Figures
from app.stats import Meter, PipelineStats


class Tally:
    """Adds up pipelines, one after the other. Written by the session's thread, read by any."""

    def __init__(self) -> None:
        self.recent = RecentSink()
        self.remarks: Sequence[str] = ()  # of the last engine that ended, for the report
        self._past: tuple[PipelineStats, ...] = ()
        self._now: Pipeline | None = None

    def begin(self, pipeline: Pipeline) -> None:
        """This one makes the results from now on."""
        self._now = pipeline

    def end(self) -> None:
        """It has ended."""
        pipeline, self._now = self._now, None
        if pipeline is not None:
            self._past = (*self._past, pipeline.stats())
            self.remarks = pipeline.backend_remarks

    @property
    def processed(self) -> int:
        """Frames that are results now."""
        return sum(each.processed for each in self._parts(counts_only=True))

    @property
    def has_begun(self) -> bool:
        """Whether there was ever an engine."""
        return bool(self._past) or self._now is not None

    def stats(self, state: str, events: Mapping[str, int]) -> PipelineStats:
        """Counts of all of them, the rest of the last; ``events`` are the sources'."""
        parts = self._parts()
        total = _total(parts) if parts else Meter().snapshot()
        counted = Counter(total.events)
        counted.update(events)
        return replace(total, state=state, events=dict(counted))

    def figures(self) -> Figures:
        """What the window shows; cheap."""
        parts = self._parts(counts_only=True)
        if not parts:
            return Figures()
        total, runs = _total(parts), self._now is not None
        p50, p95 = self.recent.ages_ms()
        return Figures(
            fps=total.fps if runs else 0.0,
            capture_fps=total.capture_fps if runs else 0.0,
            age_p50_ms=p50,
            age_p95_ms=p95,
            stages_ms=self.recent.stages_ms(),
            captured=total.captured,
            processed=total.processed,
            dropped=total.dropped,
        )

    def _parts(self, *, counts_only: bool = False) -> list[PipelineStats]:
        now, parts = self._now, list(self._past)
        if now is not None:
            parts.append(now.counts() if counts_only else now.stats())
        return parts


def _total(parts: Sequence[PipelineStats]) -> PipelineStats:
    dropped: Counter[str] = Counter()
    events: Counter[str] = Counter()
    for each in parts:
        dropped.update(each.dropped)
        events.update(each.events)
    return replace(
        parts[-1],
        captured=sum(each.captured for each in parts),
        processed=sum(each.processed for each in parts),
        dropped=dict(dropped),
        events=dict(events),
    )
