"""How does a window get the newest result without ever building a queue?"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from app.detections import Result
from app.frame import SourceInfo


class LatestSink:
    """A mailbox for one result: a new one replaces an old one that nobody fetched.

    ``emit`` is called on the pipeline thread, everything else on any thread.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: Result | None = None
        self._labels: Sequence[str] = ()
        self._count = 0

    @property
    def count(self) -> int:
        """How many results have come in so far."""
        return self._count

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """From here on results are of these classes; an older one that waits is let go."""
        with self._lock:
            self._labels, self._waiting = labels, None

    def emit(self, result: Result) -> None:
        """Replace what is waiting."""
        with self._lock:
            self._waiting = result
            self._count += 1

    def take(self) -> Result | None:
        """The newest result, once; None until a newer one is there."""
        with self._lock:
            result, self._waiting = self._waiting, None
            return result

    def take_labelled(self) -> tuple[Result, Sequence[str]] | None:
        """``take``, with the labels of the model that the result is from."""
        with self._lock:
            result, self._waiting = self._waiting, None
            return None if result is None else (result, self._labels)

    def close(self) -> None:
        """The last result stays, to be shown a last time."""
