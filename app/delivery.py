"""Who gets the results of each source, from the first to the last, and what if an output fails?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic_ns

from app.detections import Result
from app.frame import SourceInfo
from app.interfaces import Sink
from app.stats import Meter


class Outlet:
    """The sinks of one source; on the pipeline thread."""

    def __init__(self, sinks: Sequence[Sink], meter: Meter) -> None:
        self._sinks, self._meter = sinks, meter
        self._touched: list[Sink] = []
        self.is_open = False

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open them in order; raises the first fault."""
        self.is_open = True
        for sink in self._sinks:
            self._touched.append(sink)
            sink.open(source, labels)

    def emit(self, result: Result) -> None:
        """Hand the result to each."""
        started_ns = monotonic_ns()
        for sink in self._sinks:
            sink.emit(result)
        self._meter.emitted(monotonic_ns() - started_ns)

    def close(self, on_error: Callable[[BaseException], None]) -> None:
        """Close what was opened, in reverse, each whatever the others do."""
        while self._touched:
            try:
                self._touched.pop().close()
            except BaseException as error:
                on_error(error)
