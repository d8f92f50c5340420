"""How does a pipeline read a source that others may change under it?"""

from __future__ import annotations

import threading

from app.errors import SourceEnded
from app.frame import Frame, SourceInfo


class Tap:
    """A ``FrameSource`` for one pipeline: it opens when it is turned on, and ends when told to.

    The newest frame wins. ``turn_on``, ``put`` and ``end`` are called on other threads than the
    pipeline's capture thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._info: SourceInfo | None = None
        self._frame: Frame | None = None
        self._ended = False

    @property
    def is_on(self) -> bool:
        """Whether frames may flow."""
        return self._info is not None and not self._ended

    def turn_on(self, info: SourceInfo) -> None:
        """Let the pipeline open its sinks and begin."""
        with self._changed:
            self._info = info
            self._changed.notify_all()

    def put(self, frame: Frame) -> None:
        """Give it the next frame, in place of one that nobody took."""
        with self._changed:
            self._frame = frame
            self._changed.notify_all()

    def end(self) -> None:
        """No more frames; one that waits is still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def open(self) -> SourceInfo:
        """Wait until it is turned on; SourceEnded if it never is."""
        with self._changed:
            self._changed.wait_for(lambda: self._info is not None or self._ended)
            if self._info is None:
                raise SourceEnded
            return self._info

    def read(self, timeout_s: float) -> Frame | None:
        """See interfaces.FrameSource."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout_s)
            frame, self._frame = self._frame, None
            if frame is None and self._ended:
                raise SourceEnded
            return frame

    def close(self) -> None:
        """What is behind the tap stays open: it belongs to the feed."""
