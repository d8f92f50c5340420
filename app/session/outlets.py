"""How do all outputs learn of each result, and of the source and model it is from?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.detections import Result
from app.frame import SourceInfo
from app.interfaces import Sink


class Outlets:
    """One sink for a pipeline, in place of many. They are opened again when the source changes."""

    def __init__(self, sinks: Sequence[Sink], info_of: Callable[[int], SourceInfo]) -> None:
        self._sinks, self._info_of = sinks, info_of
        self._info: SourceInfo | None = None
        self._labels: Sequence[str] = ()

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Tell all of them."""
        self._info, self._labels = source, labels
        for sink in self._sinks:
            sink.open(source, labels)

    def emit(self, result: Result) -> None:
        """Pass it on."""
        info = self._info_of(result.frame.index)
        if info is not self._info:
            self.open(info, self._labels)
        for sink in self._sinks:
            sink.emit(result)

    def close(self) -> None:
        """See interfaces.Sink."""
        for sink in reversed(self._sinks):
            sink.close()
