"""How is told what went wrong, what is being done, and what was done in all?"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.errors import KestrelError
from app.stats import PipelineStats


class LastWord(logging.Handler):
    """Passes on what is logged: while something is built, that is what is being done."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on its text."""
        self._hear(record.getMessage())


def told(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, KestrelError):
        return " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {error} (KESTREL_LOG=DEBUG shows where)"


def total_of(parts: Sequence[PipelineStats]) -> PipelineStats | None:
    """Counts of all of them together; the rest is that of the last."""
    if not parts:
        return None
    dropped: Counter[str] = Counter()
    for each in parts:
        dropped.update(each.dropped)
    return replace(
        parts[-1],
        captured=sum(each.captured for each in parts),
        processed=sum(each.processed for each in parts),
        dropped=dict(dropped),
    )
