"""How do results become JSON lines, in a file or on standard output?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.detections import Result
from app.frame import SourceInfo
from app.sinks.line import LineFormatter, wall_offset_ns
from app.sinks.lines_file import LinesFile


class JsonLinesSink:
    """One line a frame to ``target``, a path or ``-``, or a file shared with other sources.

    ``wall_offset_ns`` gives Unix time − monotonic time; asked for each line, as the wall clock of
    a device without a battery jumps when it first hears from the network.
    """

    def __init__(
        self, target: str | LinesFile, *, wall_offset_ns: Callable[[], int] = wall_offset_ns
    ) -> None:
        self._file = LinesFile(target) if isinstance(target, str) else target
        self._line = LineFormatter(wall_offset_ns=wall_offset_ns)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open the target; raises SinkError with the cure."""
        self.update(source, labels)
        self._file.open()

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        """Write one line; raises SinkError when the disk is full, ReaderGone when nobody reads."""
        self._file.write(self._line(result))

    def close(self) -> None:
        """Let go; every line has been written already. SinkError if a network disk lost some."""
        self._file.close()
