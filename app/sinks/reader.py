"""The mailbox between a pipeline and a loop that reads its results."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from ..core.detections import Result
from ..core.errors import ReaderGone
from ..core.frame import SourceInfo

MOST_EVENTS = 1000  # that are kept for a slow reader, the newest


class ResultMailbox:
    """The sink behind the iterator: the newest result only, or, ``lossless``, each in turn.

    ``emit`` is called on the pipeline's thread, ``take`` and ``leave`` on the reader's.
    """

    def __init__(self, *, lossless: bool) -> None:
        self._lossless = lossless
        self._changed = threading.Condition()
        self._waiting: Result | None = None
        self._left = False
        self.labels: Sequence[str] = ()
        self.unread = 0  # results that a newer one replaced

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Sink."""
        self.labels = labels

    def emit(self, result: Result) -> None:
        """Put it there; where nothing may be lost, wait until the one before is taken."""
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: self._left or self._waiting is None)
            if self._left:
                raise ReaderGone("nobody reads the stream any more")
            if self._waiting is not None:
                self.unread += 1
                if self._waiting.events:  # are of every frame, read or not
                    events = [*self._waiting.events, *result.events]
                    result = replace(result, events=events[-MOST_EVENTS:])
            self._waiting = result
            self._changed.notify()

    def take(self, timeout_s: float) -> Result | None:
        """The result that waits, or None if none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None, timeout_s)
            result, self._waiting = self._waiting, None
            self._changed.notify()
            return result

    def leave(self) -> None:
        """The reader has gone."""
        with self._changed:
            self._left = True
            self._changed.notify()

    def close(self) -> None:
        """See interfaces.Sink; the last result stays to be taken."""
