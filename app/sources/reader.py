"""Who reads a source that may never return from its driver?

One opening of a source, on a thread of its own: it opens, reads and closes there. Who takes the
frames waits at most as long as it likes, and leaves a thread behind that does not come back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from app.errors import SourceEnded
from app.frame import Frame, SourceInfo
from app.interfaces import FrameSource

log = logging.getLogger(__name__)

READ_S = 0.2  # how soon a reader that nobody wants any more notices


class Attempt(Protocol):
    """One opening of a source, as Reader does it; a test may do it without a thread."""

    info: SourceInfo | None

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame, None if there is none in time; raises the source's error."""

    def leave(self) -> None:
        """Ask it to close; never waits."""

    def gone(self, timeout_s: float = 0.0) -> bool:
        """True once it is closed."""


class Reader(threading.Thread):
    """Keeps the newest frame. A daemon: a driver that hangs must not keep the process alive."""

    def __init__(self, make: Callable[[], FrameSource]) -> None:
        super().__init__(name="source reader", daemon=True)
        self._make = make
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._left = False
        self.info: SourceInfo | None = None  # set once the source is open
        self.start()

    def take(self, timeout_s: float) -> Frame | None:
        """The newest frame not taken yet; None when there is none in time, or on opening.

        Raises what the source raised, once, after its last frame was taken.
        """
        with self._changed:
            was_open = self.info is not None
            self._changed.wait_for(
                lambda: self._frame or self._error or (self.info and not was_open), timeout_s
            )
            frame, self._frame = self._frame, None
            if frame is not None or self._error is None:
                return frame
            error, self._error = self._error, None
        try:
            raise error
        finally:
            del error  # its traceback holds this very frame of the stack

    def leave(self) -> None:
        """Nobody wants it any more: it closes its source as soon as the driver lets it."""
        with self._changed:
            self._left = True
            self._frame = None

    def gone(self, timeout_s: float = 0.0) -> bool:
        """True once the source is closed; waits for it at most so long."""
        self.join(timeout_s)
        return not self.is_alive()

    def run(self) -> None:
        """Until the source ends or fails, or nobody wants it."""
        try:
            source = self._make()
            try:
                info = source.open()
                with self._changed:
                    self.info = info
                    self._changed.notify()
                while not self._left:
                    self._keep(source.read(READ_S))
            finally:
                source.close()
        except BaseException as error:
            if not isinstance(error, SourceEnded):
                log.debug("source reader: %s", error)
            with self._changed:
                # without the traceback, whose frames would keep the source and its memory until
                # the garbage collector comes by, which counts objects and not megabytes
                self._error = error.with_traceback(None)
                self._changed.notify()

    def _keep(self, frame: Frame | None) -> None:
        if frame is not None:
            with self._changed:
                if not self._left:
                    self._frame = frame
                    self._changed.notify()
