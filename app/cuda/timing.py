"""Which frames are timed, device timeline, copy overlap, and the measured choice of transfer mode.

Marks cost the device a pause between two kernels and the host a call each, so most frames go
without: of many a few in a row, whose copies can then be compared with their neighbours' computing.

``pinned``: asynchronous copies between page-locked and device memory, beside the computing of
another frame. ``mapped``: kernels read and write page-locked memory themselves; on a GPU that
shares its memory with the host (Jetson) nothing is moved at all.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from ..config import Transfer
from .context import GpuContext
from .graph import CudaGraph

log = logging.getLogger(__name__)


REMEMBERED = 7  # frames, or batches of them; those that can run at once are fewer by far


class Span(NamedTuple):
    """From when to when, in ns after a common origin."""

    start_ns: int
    end_ns: int


class Overlap:
    """Totals over all frames but the last few, whose neighbours are not known yet."""

    def __init__(self) -> None:
        self._frames: deque[tuple[Sequence[Span], Span, int]] = deque(maxlen=REMEMBERED)
        self.copied_ns = self.hidden_ns = self.counted = 0

    def add(self, copies: Sequence[Span], computing: Span, *, frames: int = 1) -> None:
        """One more frame, or several that went together, by the device's clock."""
        self._frames.append((copies, computing, frames))
        if len(self._frames) < REMEMBERED:
            return
        middle = REMEMBERED // 2
        others = [c for i, (_, c, _) in enumerate(self._frames) if i != middle]
        self.counted += self._frames[middle][2]
        for copy in self._frames[middle][0]:
            self.copied_ns += copy.end_ns - copy.start_ns
            self.hidden_ns += covered_ns(copy, others)

    def forget(self) -> None:
        """The origin changes: frames from before cannot be compared with what follows."""
        self._frames.clear()

    def line(self) -> str:
        """For people; empty as long as nothing is known."""
        if not self.copied_ns:
            return ""
        copied, hidden = (ns / self.counted / 1e6 for ns in (self.copied_ns, self.hidden_ns))
        share = self.hidden_ns / self.copied_ns
        return f"overlap {share:.0%}, {hidden:.3f} of {copied:.3f} ms of copying a frame hidden"


def covered_ns(span: Span, others: Sequence[Span]) -> int:
    """How much of ``span`` lies in at least one of the others."""
    covered, until = 0, span.start_ns
    for other in sorted(others):
        start, end = max(other.start_ns, until), min(other.end_ns, span.end_ns)
        if end > start:
            covered += end - start
            until = end
    return covered


class TransferMode:
    """One decision for all slots of a backend."""

    def __init__(self, wanted: Transfer = "auto") -> None:
        self.mapped: bool | None = None if wanted == "auto" else wanted == "mapped"
        self.remark = f"transfer {wanted}, as asked for" if wanted != "auto" else ""

    def decide(self, trial_ns: Callable[[bool], float]) -> bool:
        """Whether to map. ``trial_ns``: how long a frame takes with mapped memory, or without,
        while all slots are at work: a copy that another frame's computing hides costs nothing."""
        if self.mapped is None:
            pinned, mapped = (trial_ns(choice) / 1e6 for choice in (False, True))
            self.mapped = mapped < pinned
            name = "mapped" if self.mapped else "pinned"
            self.remark = (
                f"transfer {name}: with all slots at work a frame takes {pinned:.3f} ms pinned, "
                f"{mapped:.3f} ms mapped"
            )
            log.info("%s", self.remark)
        return self.mapped


TIMED, OF = 16, 64  # launches in a row that are timed, of so many
SPARSE_S = 0.5  # and one at least as often: figures are of the last few seconds
RENEW_S = 5.0  # the driver tells distances as float ms: after so long they are good to half a µs


class DeviceTimeline:
    """An event that is marked now and then, and what the slots' marks say after it."""

    def __init__(self) -> None:
        self.overlap = Overlap()
        self._origin: CudaGraph | None = None
        self._stream: Any = None
        self._marked_s = self._timed_s = 0.0
        self._launches = 0
        self._in_a_row = False

    def open(self, context: GpuContext, *, capture: bool) -> None:
        """``capture``: as the slots' graphs have it, for events of one kind."""
        self._stream = context.driver.Stream()
        self._origin = CudaGraph(
            context, self._stream, lambda mark: mark(0), marks=1, capture=capture
        )
        self._mark()

    def tick(self) -> bool:
        """Whether the launch that comes next is to be timed. Renews the origin when it is old."""
        now_s = monotonic()
        in_a_row = self._launches % OF < TIMED
        self._launches += 1
        if in_a_row and not self._in_a_row:
            self.overlap.forget()  # what lay in between is not known
        self._in_a_row = in_a_row
        if not in_a_row and now_s - self._timed_s < SPARSE_S:
            return False
        self._timed_s = now_s
        if now_s - self._marked_s > RENEW_S:
            self._mark()
        return True

    def marks_ns(self, graph: CudaGraph) -> list[int]:
        """When a slot's launch, which is done, came to each of its marks."""
        assert self._origin is not None
        return graph.after_ns(self._origin)

    def add(self, marks_ns: Sequence[int], *, frames: int) -> None:
        """Those around upload, preprocess … download of frames that went together."""
        if not self._in_a_row:
            return  # its neighbours are not timed
        up, start, *_, end, down = marks_ns
        self.overlap.add([Span(up, start), Span(end, down)], Span(start, end), frames=frames)

    def span_ns(self, work: Callable[[], Sequence[CudaGraph]]) -> int:
        """How long the device takes until all graphs that ``work`` launches, with marks, are
        done."""
        self._mark()
        graphs = work()
        for graph in graphs:
            graph.wait()
        return max(self.marks_ns(graph)[-1] for graph in graphs)

    def close(self) -> None:
        """Free everything; nothing may be pending."""
        if self._origin is not None:
            self._origin.close()
        self._origin = self._stream = None

    def _mark(self) -> None:
        assert self._origin is not None
        self._origin.launch()
        self._origin.wait()
        self._marked_s = monotonic()
        self.overlap.forget()
