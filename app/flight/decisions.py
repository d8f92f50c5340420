"""How is a recorded run repeated, with the drops it had then?

The hand-off of the application decides again, in the recorded order and at the recorded times: a
virtual clock. What it decides is compared with what was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic_ns

from app.errors import SourceEnded, SourceError, VerdictError
from app.flight.trace_file import Trace
from app.frame import Frame, SourceInfo
from app.handoff import Handoff, Policy, is_stale
from app.interfaces import FrameSource

OUTCOMES = ("replaced", "stale", "kept")
SHOWN = 3


class DecidedSource:
    """The frames of ``source`` that are not dropped; a FrameSource for a lossless replay.

    ``max_age_ms`` other than the recorded one shows what would have been: nothing is compared then.
    """

    def __init__(
        self, source: FrameSource, trace: Trace, *, max_age_ms: float | None = None
    ) -> None:
        self._source, self._trace = source, trace
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

    def open(self) -> SourceInfo:
        """See interfaces.FrameSource."""
        return replace(self._source.open(), live=False)

    def close(self) -> None:
        """See interfaces.FrameSource."""
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
                    f"{self._trace.header.get('source')}"
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
        recorded = recorded_outcomes(self._trace)
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


def recorded_outcomes(trace: Trace) -> Mapping[int, str]:
    """What became of each frame."""
    return {event[2]: event[0] for event in trace.events if event[0] in OUTCOMES}
