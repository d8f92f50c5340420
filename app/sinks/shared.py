"""How does one output serve the results of several sources?"""

from __future__ import annotations

from collections.abc import Sequence

from app.detections import Result
from app.frame import SourceInfo
from app.interfaces import Sink


class Shared:
    """Opens the sink with the first source and closes it with the last; pipeline thread only.

    For sinks to which it makes no difference whose result it is.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink, self._users = sink, 0

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Sink."""
        self._users += 1
        if self._users == 1:
            self._sink.open(source, labels)

    def emit(self, result: Result) -> None:
        """See interfaces.Sink."""
        self._sink.emit(result)

    def close(self) -> None:
        """See interfaces.Sink."""
        self._users -= 1
        if self._users == 0:
            self._sink.close()
