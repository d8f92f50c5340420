"""A recorded run repeated with the drops it had, or exported for Perfetto.

The hand-off of the application decides again, in the recorded order and at the recorded times: a
virtual clock. What it decides is compared with what was recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic_ns
from typing import Any

from ..core.errors import SourceEnded, SourceError, VerdictError
from ..core.frame import Frame, SourceInfo
from ..core.interfaces import FrameSource
from ..pipeline.handoff import Handoff, Policy, is_stale
from .flight import Trace

TRACKS = {"capture": 1, "waiting": 2, "inference": 3, "state": 4}
DROPS = ("replaced", "stale")


def chrome_trace(trace: Trace) -> dict[str, Any]:
    """Waiting and inference as spans, arrivals and drops as instants, ages as a counter; in µs."""
    start_ns = trace.events[0][1] if trace.events else 0
    out: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for name, tid in TRACKS.items()
    ]

    def us(time_ns: int) -> float:
        return (time_ns - start_ns) / 1e3

    def instant(track: str, name: str, time_ns: int, **args: Any) -> None:
        event = {"ph": "i", "s": "t", "pid": 1, "tid": TRACKS[track], "ts": us(time_ns)}
        out.append({**event, "name": name, "args": args})

    def span(track: str, name: str, begin_ns: int, end_ns: int, key: str, **args: Any) -> None:
        # asynchronous: several frames are in flight at a time
        common = {"pid": 1, "tid": TRACKS[track], "cat": track, "id": key, "name": name}
        out.append({**common, "ph": "b", "ts": us(begin_ns), "args": args})
        out.append({**common, "ph": "e", "ts": us(end_ns)})

    put_ns: dict[int, int] = {}
    kept_ns: dict[int, int] = {}
    for event in trace.events:
        kind, time_ns, index = event[:3]
        if kind == "put":
            put_ns[index] = time_ns
            instant("capture", f"frame {index}", time_ns)
        elif kind in DROPS:
            instant("waiting", f"{kind} {index}", time_ns, frame=index)
            put_ns.pop(index, None)
        elif kind == "kept":
            kept_ns[index] = time_ns
            if index in put_ns:
                span("waiting", f"frame {index}", put_ns.pop(index), time_ns, f"w{index}")
        elif kind == "result":
            age_ns, stages_ns, boxes = event[3:6]
            stages_ms = {name: ns / 1e6 for name, ns in stages_ns.items()}
            if index in kept_ns:
                key, begin_ns = f"i{index}", kept_ns.pop(index)
                span("inference", f"frame {index}", begin_ns, time_ns, key, **stages_ms)
            args = {"age_ms": age_ns / 1e6}
            out.append({"ph": "C", "pid": 1, "ts": us(time_ns), "name": "age", "args": args})
            args = {"boxes": len(boxes)}
            out.append({"ph": "C", "pid": 1, "ts": us(time_ns), "name": "boxes", "args": args})
        elif kind in ("state", "error"):
            instant("state", str(event[3]), time_ns)
    return {"traceEvents": out, "displayTimeUnit": "ms", "otherData": dict(trace.header)}


OUTCOMES = ("replaced", "stale", "kept")
SHOWN = 3


class RecordedDropsSource:
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
