"""How much of the copying is hidden: done while the GPU computes another frame?"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

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
