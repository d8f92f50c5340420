"""The capture thread: who reads the source, and what happens when it ends or fails?"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic_ns

from app.errors import SourceEnded
from app.frame import SourceInfo, describe
from app.handoff import Handoff
from app.interfaces import FrameSource, TellsItsState
from app.stats import Meter

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.2  # how soon a stop is noticed while nothing comes


class Capture(threading.Thread):
    """Opens, reads and closes the source, all on this thread.

    A daemon: a driver that never returns from a read must not keep the process alive. ``lane`` is
    written on its frames, ``name`` told in the log.
    """

    def __init__(
        self,
        source: FrameSource,
        handoff: Handoff,
        meter: Meter,
        *,
        stop: threading.Event,
        on_open: Callable[[SourceInfo], None],
        on_error: Callable[[BaseException], None],
        lane: int = 0,
        name: str = "",
    ) -> None:
        super().__init__(name=f"capture-{lane}" if lane else "capture", daemon=True)
        self._lane, self._source_name = lane, name
        self._source, self._handoff, self._meter = source, handoff, meter
        self._stop_event, self._on_open, self._on_error = stop, on_open, on_error
        # when the read that is under way began; None between reads. For who watches from outside.
        self.reading_since_ns: int | None = None

    def run(self) -> None:
        """Until the source ends, fails, or the run is stopped."""
        teller = self._source if isinstance(self._source, TellsItsState) else None
        try:
            if teller:
                teller.listen(self._meter)
            info = self._source.open()
            log.info("source %s: %s", self._called(info), describe(info))
            self._on_open(info)
            if not teller:
                self._meter.state = "live" if info.live else "replay"
            self._read_all()
        except SourceEnded:
            log.debug("source ended")
        except BaseException as error:
            self._on_error(error)
        finally:
            self._handoff.end()
            self._source.close()

    def _called(self, info: SourceInfo) -> str:
        return f"{self._source_name}={info.uri}" if self._source_name else info.uri

    def _read_all(self) -> None:
        expected: int | None = None
        while not self._stop_event.is_set():
            self.reading_since_ns = started_ns = monotonic_ns()
            try:
                frame = self._source.read(READ_TIMEOUT_S)
            finally:
                self.reading_since_ns = None
            if frame is None:
                continue
            self._meter.captured(monotonic_ns() - started_ns)
            if expected is not None and frame.index > expected:
                self._meter.skipped(frame.index - expected)
            expected = frame.index + 1
            if self._lane:
                frame = replace(frame, lane=self._lane)
            while not self._handoff.put(frame, READ_TIMEOUT_S):
                if self._stop_event.is_set():
                    self._meter.dropped("stopped")
                    return
