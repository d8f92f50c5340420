"""How do results become JSON lines, in a file or on standard output?"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.detections import Result
from app.errors import ReaderGone, SinkError
from app.frame import SourceInfo
from app.sinks.line import LineFormatter, wall_offset_ns
from app.sinks.output_file import cure, open_output

STDOUT = "-"


class JsonLinesSink:
    """One line a frame to ``target``, a path (replaced if it exists) or ``-``.

    Each line is one write past all buffers: a reader sees it at once, a crash loses none, and for
    a few hundred bytes a frame that costs less than keeping a buffer fresh would.
    ``wall_offset_ns`` gives Unix time − monotonic time; asked for each line, as the wall clock of
    a device without a battery jumps when it first hears from the network.
    """

    def __init__(self, target: str, *, wall_offset_ns: Callable[[], int] = wall_offset_ns) -> None:
        self._path = None if target == STDOUT else Path(target)
        self._out: io.FileIO | None = None
        self._line = LineFormatter(wall_offset_ns=wall_offset_ns)

    def open(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """Open the target; raises SinkError with the cure."""
        self.update(source, labels)
        self._out = _open_stdout() if self._path is None else open_output(self._path, truncate=True)

    def update(self, source: SourceInfo, labels: Sequence[str]) -> None:
        """See interfaces.Updatable."""
        self._line.open(source, labels)

    def emit(self, result: Result) -> None:
        """Write one line; raises SinkError when the disk is full, ReaderGone when nobody reads."""
        if self._out is None:
            return
        line = f"{self._line(result)}\n".encode()
        written = 0
        try:
            while written < len(line):
                n = self._out.write(line[written:])
                if n is None:  # somebody made the pipe or terminal non-blocking: wait for room
                    select.select([], [self._out], [], 1.0)
                else:
                    written += n
        except BrokenPipeError:
            self._leave()
            raise ReaderGone(f"nobody reads {self._name} any more") from None
        except OSError as error:
            _cut(self._out, written)
            self._leave()
            raise SinkError(
                f"cannot write JSON lines to {self._name}: {cure(error, self._path)}; "
                "the lines before are whole"
            ) from error

    def close(self) -> None:
        """Let go; every line has been written already. SinkError if a network disk lost some."""
        if self._out is not None:
            out, self._out = self._out, None
            try:
                out.close()
            except OSError as error:
                raise SinkError(f"cannot finish {self._name}: {cure(error, self._path)}") from error

    @property
    def _name(self) -> str:
        return "standard output" if self._path is None else str(self._path)

    def _leave(self) -> None:
        """Let go after a fault, so that the interpreter's own flush at exit does not fail again."""
        if self._out is not None and self._path is None:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._out.fileno())
                os.close(nowhere)
        with suppress(SinkError):
            self.close()


def _open_stdout() -> io.FileIO:
    try:
        if sys.stdout is None:
            raise OSError("closed")
        sys.stdout.flush()
        return io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
    except (OSError, ValueError) as error:
        raise SinkError(
            f"cannot write JSON lines to standard output ({error}); name a file instead of -"
        ) from error


def _cut(out: io.FileIO, extra: int) -> None:
    """Take back the ``extra`` bytes of half a line, unless somebody has written behind them."""
    with suppress(OSError):
        status = os.fstat(out.fileno())
        end = os.lseek(out.fileno(), 0, os.SEEK_CUR)
        if extra and stat.S_ISREG(status.st_mode) and status.st_size == end:
            os.ftruncate(out.fileno(), end - extra)
            os.lseek(out.fileno(), end - extra, os.SEEK_SET)
